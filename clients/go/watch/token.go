package watch

import (
	"context"
	"fmt"
	"os"
	"strings"

	"google.golang.org/grpc/credentials"
)

type tokenFile string

// TokenFile sends the token in a file with each call. It reads the file each time, so that it may be replaced. It is for
// grpc.WithPerRPCCredentials, on a connection with TLS.
func TokenFile(path string) credentials.PerRPCCredentials { return tokenFile(path) }

func (f tokenFile) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := os.ReadFile(string(f))
	if err != nil {
		return nil, fmt.Errorf("the token cannot be read: %w", err)
	}
	return map[string]string{"authorization": "Bearer " + strings.TrimSpace(string(token))}, nil
}

func (tokenFile) RequireTransportSecurity() bool { return true }
