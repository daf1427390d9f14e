package main

import (
	"errors"
	"io"
	"net/http"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// floor does the least that a gateway on net/http and grpc-go can do: it makes the gRPC
// call, reads the replies as bytes, and answers JSON that was written beforehand. It
// neither routes, nor parses, nor converts. What it costs, nobody can save.
type floor struct {
	conn    *grpc.ClientConn
	answers map[string]*readyAnswer // by group
}

type readyAnswer struct {
	row     *row
	request []byte
	json    [][]byte
}

func newFloor(upstream string) (http.Handler, error) {
	conn, err := dial(upstream)
	if err != nil {
		return nil, err
	}
	f := &floor{conn, make(map[string]*readyAnswer)}
	for group, r := range rowsByGroup() {
		request, err := proto.Marshal(r.request)
		if err != nil {
			return nil, err
		}
		json, err := r.json()
		if err != nil {
			return nil, err
		}
		if r.stream {
			for i := range json {
				json[i] = append(json[i], '\n')
			}
		}
		f.answers[group] = &readyAnswer{r, request, json}
	}
	return f, nil
}

func (f *floor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := f.answers[r.Header.Get("X-Group")]
	if answer == nil {
		http.NotFound(w, r)
		return
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r = r.WithContext(metadata.AppendToOutgoingContext(r.Context(),
		apiKeyMetadata, r.Header.Get("X-Api-Key"), groupMetadata, answer.row.group))
	if answer.row.stream {
		f.stream(w, r, answer)
		return
	}
	var reply []byte
	if err := f.conn.Invoke(r.Context(), answer.row.method, answer.request, &reply, grpc.ForceCodecV2(bytesCodec{})); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(answer.json[0])))
	_, _ = w.Write(answer.json[0])
}

// stream writes and flushes a line for each message, as it arrives.
func (f *floor) stream(w http.ResponseWriter, r *http.Request, answer *readyAnswer) {
	stream, err := f.conn.NewStream(r.Context(), &grpc.StreamDesc{ServerStreams: true}, answer.row.method, grpc.ForceCodecV2(bytesCodec{}))
	if err == nil {
		err = errors.Join(stream.SendMsg(answer.request), stream.CloseSend())
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	for i := 0; ; i++ {
		var reply []byte
		err := stream.RecvMsg(&reply)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil || i == len(answer.json) {
			panic(http.ErrAbortHandler) // the client sees a broken answer
		}
		_, _ = w.Write(answer.json[i])
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
	}
}
