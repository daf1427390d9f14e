package ui

// priced is a kind of token that has prices.
type priced struct {
	Name  string
	Codes []string
	// Quotes is what the tokens are priced in.
	Quotes string
}

// Priced returns the tokens that Mesh has prices of. The contract does not contain them.
func (guide) Priced() []priced {
	return []priced{
		{"Cryptocurrencies", []string{"BTC", "ETH", "XLM", "USDC", "USDT", "SOL", "DOGE", "ADA", "DOT"}, "in fiat currencies and in each other"},
		{"Metals", []string{"XAU", "XAG", "XPT", "XPD"}, "in USD and ZAR"},
		{"Fiat currencies", []string{"USD", "EUR", "GBP", "JPY", "ZAR", "CHF", "CAD", "AUD", "NZD", "CNY", "INR", "BRL"}, "in each other"},
		{"JSE equities", []string{"STX40", "STXRAF", "STXWDM", "STXEMG", "STX500", "BRNDZ", "TITANS"}, "in ZAR"},
	}
}
