package web

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// maxTokens is more than a file of tokens has.
const maxTokens = 1 << 10

// LoadTokens returns the tokens in the file at path, which it makes if there is
// none. They stay the same from one start to the next, so that an address that
// was noted goes on to work; to remove the file ends that.
func LoadTokens(path string) (Tokens, error) {
	t := Tokens{NewToken(), NewToken()}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return readTokens(path)
	}
	if err != nil {
		return t, fmt.Errorf("keep tokens: %w", err)
	}
	_, err = fmt.Fprintf(f, "read %s\nchange %s\n", t.Read, t.Change)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(path) // half of it is no file of tokens
		return t, fmt.Errorf("keep tokens: %w", err)
	}
	return t, nil
}

func readTokens(path string) (t Tokens, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return t, fmt.Errorf("read tokens: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return t, fmt.Errorf("read tokens: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 || int(st.Uid) != os.Geteuid() {
		return t, fmt.Errorf("%s may be known to others: remove it, a new one is made", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxTokens))
	if err != nil {
		return t, fmt.Errorf("read tokens: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		switch word, token, _ := strings.Cut(strings.TrimSpace(line), " "); word {
		case "read":
			t.Read = token
		case "change":
			t.Change = token
		}
	}
	if shortest := len(NewToken()); len(t.Read) < shortest || len(t.Change) < shortest {
		return t, fmt.Errorf("%s holds no tokens: remove it, a new one is made", path)
	}
	return t, nil
}
