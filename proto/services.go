package proto

import (
	"google.golang.org/protobuf/reflect/protoreflect"

	clientv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/compliance/client/v1"
	apiuserv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/api_user/v1"
	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
	userv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/user/v1"
	userprofilev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/user_profile/v1"
	transactionv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/ledger/transaction/v1"
	pricev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/market_data/price/v1"
	accountreportv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/reporting/account_report/v1"
	tokentapv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/testing/ledger/token_tap/v1"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
	marketorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/market_order/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
	transferv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/transfer/v1"
)

// Services returns the services of the Mesh API, in the order in which the
// documentation presents them.
func Services() []protoreflect.ServiceDescriptor {
	var services []protoreflect.ServiceDescriptor
	for _, file := range []protoreflect.FileDescriptor{
		apiuserv1.File_meshtrade_iam_api_user_v1_service_proto,
		groupv1.File_meshtrade_iam_group_v1_service_proto,
		userv1.File_meshtrade_iam_user_v1_service_proto,
		userprofilev1.File_meshtrade_iam_user_profile_v1_service_proto,
		clientv1.File_meshtrade_compliance_client_v1_service_proto,
		accountv1.File_meshtrade_wallet_account_v1_service_proto,
		transferv1.File_meshtrade_wallet_transfer_v1_service_proto,
		transactionv1.File_meshtrade_ledger_transaction_v1_service_proto,
		pricev1.File_meshtrade_market_data_price_v1_service_proto,
		limitorderv1.File_meshtrade_trading_limit_order_v1_service_proto,
		marketorderv1.File_meshtrade_trading_market_order_v1_service_proto,
		accountreportv1.File_meshtrade_reporting_account_report_v1_service_proto,
		tokentapv1.File_meshtrade_testing_ledger_token_tap_v1_service_proto,
	} {
		for i := range file.Services().Len() {
			services = append(services, file.Services().Get(i))
		}
	}
	return services
}
