package serve_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/mistura-project/mistura/internal/island"
	"github.com/mistura-project/mistura/internal/wire"
)

// islandVariable makes this test binary act as an island process.
const islandVariable = "MISTURA_TEST_ISLAND"

func TestMain(m *testing.M) {
	if os.Getenv(islandVariable) != "" {
		if err := actAsIsland(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Setenv(islandVariable, "1") // for the children
	os.Exit(m.Run())
}

func actAsIsland() error {
	stdin := bufio.NewReader(os.Stdin)
	line, err := stdin.ReadString('\n')
	if err != nil {
		return err
	}
	join, err := wire.ParseJoin(strings.TrimSpace(line))
	if err != nil {
		return err
	}
	leave := make(chan struct{})
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		close(leave)
	}()
	return island.Run(context.Background(), island.Options{
		Join: join, Version: "test", Leave: leave, ParentStdin: stdin,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
}
