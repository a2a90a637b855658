// Watches OpFlex peers until it is stopped, and goes on where it was when a connection breaks or the service is started again:
// cd examples/go && go run . 127.0.0.1:50051
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"

	"git.example/opflex-peerstatus/clients/go/watch"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func main() {
	address := append(os.Args[1:], "127.0.0.1:50051")[0]
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), watch.Keepalive())
	if err != nil {
		log.Fatal(err)
	}
	watcher := watch.New(conn, watch.Listener("example-go")) // another watcher with the same name takes over
	log.Fatal("trying again would not help: ", watcher.Run(context.Background(), show))
}

func show(change watch.Change) {
	switch {
	case change.Snapshot != nil:
		fmt.Print("snapshot ", change.Cursor.Revision)
		for _, peer := range change.Snapshot.Peers {
			fmt.Print(" ", peer.Name, "=", name(peer.Status, "PEER_STATUS_"))
		}
		fmt.Println()
	case change.Peer != nil:
		peer, health := change.Peer.Peer, ""
		if change.Health != nil {
			health = name(change.Health.Health, "POOL_HEALTH_")
		}
		fmt.Println("change", change.Cursor.Revision, peer.Name, name(peer.Status, "PEER_STATUS_"), name(peer.Reason, "REASON_"), health)
	case change.Gap != nil:
		fmt.Println("missed", change.Gap.Missed, "changes (0: unknown):", name(change.Gap.Reason, "RESET_REASON_"))
	case change.Lost != nil:
		fmt.Println("lost:", change.Lost)
	case change.Resumed:
		fmt.Println("resumed", change.Cursor.Revision)
	}
}

func name(value fmt.Stringer, prefix string) string {
	return strings.TrimPrefix(value.String(), prefix)
}
