package watch

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	v1 "git.example/opflex-peerstatus/clients/go/opflex/peerstatus/v1"
)

// silent is a service that sends these messages, and then nothing.
type silent struct {
	v1.UnimplementedPeerStatusServiceServer
	messages []*v1.WatchPeerStatusResponse
}

func (s silent) WatchPeerStatus(_ *v1.WatchPeerStatusRequest, stream grpc.ServerStreamingServer[v1.WatchPeerStatusResponse]) error {
	for _, message := range s.messages {
		if err := stream.Send(message); err != nil {
			return err
		}
	}
	<-stream.Context().Done()
	return stream.Context().Err()
}

func TestServiceThatIsSilentBehindAProxyIsAway(t *testing.T) {
	for _, messages := range [][]*v1.WatchPeerStatusResponse{nil, {attached(5, nil), snapshot(5), synced(5)}} {
		listening, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := grpc.NewServer()
		v1.RegisterPeerStatusServiceServer(server, silent{messages: messages})
		go func() { _ = server.Serve(listening) }()
		conn, err := grpc.NewClient(listening.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		watcher, snapshots := New(conn), 0
		if watcher.session.silence = 500 * time.Millisecond; messages == nil {
			watcher.session.firstMessage = 500 * time.Millisecond
		}
		var lost error
		_ = watcher.Run(ctx, func(change Change) {
			if change.Snapshot != nil {
				snapshots++
			}
			if change.Lost != nil && snapshots == len(messages)/3 {
				lost = change.Lost
				cancel()
			}
		})
		if lost == nil || !strings.Contains(lost.Error(), "no message from the service for 500ms") || snapshots != len(messages)/3 {
			t.Error(lost, snapshots)
		}
		cancel()
		_ = conn.Close()
		server.Stop()
	}
}
