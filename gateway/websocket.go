package gateway

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

const (
	// closeCodes begins the range that RFC 6455 leaves to applications. A stream that
	// failed with a gRPC code closes with their sum.
	closeCodes = 4000
	// maxCloseReason is what fits into a control frame beside the code, in bytes.
	maxCloseReason = 123
)

// errLeft ends the upstream call of a client that closed its WebSocket.
var errLeft = errors.New("the client closed the WebSocket")

// wantsWebSocket reports whether the request asks for a WebSocket.
func wantsWebSocket(r *http.Request) bool {
	return r.Method == http.MethodGet && hasToken(r.Header["Upgrade"], "websocket")
}

// checkHandshake refuses a handshake that cannot succeed (RFC 6455, section 4.2.1), or
// that comes from a page of a foreign origin, before anything is sent upstream.
func (o *options) checkHandshake(r *http.Request) error {
	refuse := func(description string) error {
		return apierror.Invalid(apierror.Violation{Description: "the WebSocket handshake is malformed: " + description})
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(r.Header.Get("Sec-WebSocket-Key")))
	switch {
	case r.ProtoMajor != 1 || r.ProtoMinor != 1:
		return refuse("send it over HTTP/1.1")
	case !hasToken(r.Header["Connection"], "upgrade"):
		return refuse(`send the header "Connection: Upgrade"`)
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		return refuse(`send the header "Sec-WebSocket-Version: 13"`)
	case len(r.Header["Sec-Websocket-Key"]) != 1 || err != nil || len(key) != 16:
		return refuse("Sec-WebSocket-Key must be 16 bytes in base64, sent once")
	case !o.fromOrigin(r):
		return apierror.New(codes.PermissionDenied, apierror.CrossSite,
			"Pages from "+r.Header.Get("Origin")+" are not allowed to open a WebSocket here. The operator of the gateway must allow the origin.")
	}
	return nil
}

// hasToken reports whether a header that is a list holds a token.
func hasToken(values []string, token string) bool {
	for _, value := range values {
		for item := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(item), token) {
				return true
			}
		}
	}
	return false
}

// fromOrigin reports whether a WebSocket may be opened from where the request comes
// from. Browsers apply no CORS check to WebSockets, so the server must: a page needs
// the gateway's own origin or a listed one. Programs send no Origin.
func (o *options) fromOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || slices.Contains(o.origins, origin) {
		return true
	}
	parsed, err := url.Parse(origin)
	return err == nil && parsed.Host != "" && strings.EqualFold(parsed.Host, r.Host)
}

// webSocket writes a stream as WebSocket text messages, one each. The connection is
// upgraded when the stream opens. It is closed with code 1000 after a good end, with
// 1011 or 4000 plus the gRPC code after an error, with the message of its status as
// the reason, and with 1012 if the gateway shuts down.
type webSocket struct {
	w       http.ResponseWriter
	request *http.Request
	// leave ends the upstream call.
	leave   context.CancelCauseFunc
	timeout time.Duration // of a write
	conn    *websocket.Conn
}

func (s *webSocket) open() (err error) {
	// The origin has been checked.
	s.conn, err = websocket.Accept(s.w, s.request, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	// Nothing is read but the client's close, which ends the upstream call.
	read := s.conn.CloseRead(context.WithoutCancel(s.request.Context()))
	context.AfterFunc(read, func() { s.leave(errLeft) })
	return nil
}

func (s *webSocket) message(json []byte, _ bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.request.Context()), s.timeout)
	defer cancel()
	return s.conn.Write(ctx, websocket.MessageText, json)
}

func (s *webSocket) keepAlive(ctx context.Context) error {
	// Ending a ping early would close the connection.
	pong, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
	defer cancel()
	if err := s.conn.Ping(pong); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

func (s *webSocket) end() error { return s.conn.Close(websocket.StatusNormalClosure, "") }

func (s *webSocket) fail(st *spb.Status) error {
	if s.conn == nil { // it could not be upgraded
		return nil
	}
	return s.conn.Close(closeCode(st), strings.ToValidUTF8(st.GetMessage()[:min(len(st.GetMessage()), maxCloseReason)], ""))
}

// closeCode is the close code of a stream that failed.
func closeCode(st *spb.Status) websocket.StatusCode {
	for _, detail := range st.GetDetails() {
		info := new(errdetails.ErrorInfo)
		if detail.UnmarshalTo(info) == nil && info.GetReason() == string(apierror.Draining) {
			return websocket.StatusServiceRestart
		}
	}
	switch code := codes.Code(st.GetCode()); code {
	case codes.Internal, codes.Unknown:
		return websocket.StatusInternalError
	default:
		return closeCodes + websocket.StatusCode(code)
	}
}
