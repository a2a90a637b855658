// Watches OpFlex peers until it is stopped. Survives broken connections, errors of proxies and restarts of the service:
// cd examples/go && npx @bufbuild/buf@1.75.0 generate ../../proto && go run . 127.0.0.1:50051
package main

import (
	"context"
	v1 "example.com/peerstatus/gen/opflex/peerstatus/v1"
	"fmt"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"log"
	"math/rand/v2"
	"os"
	"strings"
	"time"
)

const listener = "example-go"                                                                           // choose your own: it outlives its streams, and another client with the same name takes over
var cursor, epoch, last, failures, asked = (*v1.Cursor)(nil), uint64(0), uint64(0), 0, time.Duration(0) // cursor: the last processed message. asked: the pause that the service asked for
var hopeless = map[codes.Code]bool{codes.InvalidArgument: true, codes.Unauthenticated: true, codes.PermissionDenied: true, codes.Unimplemented: true, codes.Aborted: true}

func watch(ctx context.Context, stub v1.PeerStatusServiceClient) error { // one stream, to its end
	if _, err := stub.CreateListener(ctx, &v1.CreateListenerRequest{ListenerId: listener, UserData: []byte("example")}); err != nil && status.Code(err) != codes.AlreadyExists {
		return err
	}
	stream, err := stub.WatchPeerStatus(ctx, &v1.WatchPeerStatusRequest{Listener: "listeners/" + listener, ResumeAfter: cursor, Takeover: true})
	for message := (*v1.WatchPeerStatusResponse)(nil); err == nil; message, err = stream.Recv() {
		process(message)
	}
	return err
}

func process(m *v1.WatchPeerStatusResponse) {
	attached, reset, snapshot, change := m.GetAttached(), m.GetReset_(), m.GetSnapshot(), m.GetChange()
	switch {
	case attached != nil:
		epoch, last = attached.Cursor.Epoch, attached.Cursor.Revision
		fmt.Println("attached at", last, "resumed:", attached.Resumed)
	case reset != nil: // discard the state; a snapshot follows
		cursor = nil
		fmt.Println("missed", reset.MissedCount, "changes (0: unknown):", reset.Reason)
	case snapshot != nil:
		last = m.Revision
		fmt.Print("snapshot ", last)
		for _, peer := range snapshot.Peers {
			fmt.Print(" ", peer.Name, "=", peer.Status)
		}
		fmt.Println()
	case change != nil && m.PreviousRevision != last:
		log.Fatalf("a gap: %d is not %d", m.PreviousRevision, last)
	case change != nil:
		last = m.Revision
		peer, health := change.GetPeer().GetPeer(), change.GetHealth().GetHealth().String() // unspecified: the health did not change
		fmt.Println("change", last, peer.GetName(), peer.GetStatus(), peer.GetReason(), strings.TrimSuffix(health, "POOL_HEALTH_UNSPECIFIED"))
	}
	if m.GetSynced() != nil || change != nil || m.GetHeartbeat() != nil || m.GetDraining() != nil { // not before `synced`: the snapshot may be incomplete
		cursor, failures, asked = &v1.Cursor{Epoch: epoch, Revision: m.Revision}, 0, m.GetDraining().GetRetryAfter().AsDuration()
	}
}

func main() {
	connection, err := grpc.NewClient(append(os.Args[1:], "127.0.0.1:50051")[0], grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second})) // detect dead connections
	for stub := v1.NewPeerStatusServiceClient(connection); err == nil; failures, asked = failures+1, 0 {
		lost := watch(context.Background(), stub)
		fmt.Println("lost:", lost)
		for _, detail := range status.Convert(lost).Details() { // a proxy's error may have the same code, but not the service's ErrorInfo
			if info, ok := detail.(*errdetails.ErrorInfo); ok && info.Domain == "opflex.peerstatus" && hopeless[status.Code(lost)] {
				log.Fatal("trying again would not help")
			}
		}
		time.Sleep(max(asked, rand.N(min(10*time.Second, 250*time.Millisecond<<min(failures, 10)))))
		connection.ResetConnectBackoff() // gRPC's own pauses grow up to two minutes
	}
	log.Fatal(err)
}
