// Command many runs watchers of the client in Go, each on a connection of its own, and prints what they tell, an object of JSON
// a line: tests/interop/python/many.py, in another language.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"strconv"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "git.example/opflex-peerstatus/clients/go/opflex/peerstatus/v1"
	"git.example/opflex-peerstatus/clients/go/watch"
)

type line struct {
	Watcher  int    `json:"watcher"`
	Kind     string `json:"kind"`
	Epoch    uint64 `json:"epoch"`
	Revision uint64 `json:"revision"`
	Previous uint64 `json:"previous"`
}

func main() {
	address := os.Args[1]
	count, err := strconv.Atoi(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	output, lock := json.NewEncoder(os.Stdout), sync.Mutex{}
	ended := make(chan error)
	for number := range count {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), watch.Keepalive())
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			ended <- watch.New(conn).Run(context.Background(), func(change watch.Change) {
				lock.Lock()
				defer lock.Unlock()
				told := line{Watcher: number, Kind: kind(change), Previous: change.PreviousRevision}
				told.Epoch, told.Revision = position(change.Cursor)
				if err := output.Encode(told); err != nil {
					log.Fatal(err)
				}
			})
		}()
	}
	log.Fatal(<-ended)
}

func kind(change watch.Change) string {
	switch {
	case change.Snapshot != nil:
		return "snapshot"
	case change.Gap != nil:
		return "gap"
	case change.Lost != nil:
		return "lost"
	case change.Resumed:
		return "resumed"
	}
	return "change"
}

func position(cursor *pb.Cursor) (epoch, revision uint64) {
	return cursor.GetEpoch(), cursor.GetRevision()
}
