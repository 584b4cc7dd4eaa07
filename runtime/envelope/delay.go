package envelope

import (
	"fmt"
	"strings"
	"time"
)

// FormatDelay returns d as log lines show it: whole seconds, in the units
// that it needs, "0s" or "1d2h3m4s".
func FormatDelay(d time.Duration) string {
	s := int64(max(d, 0) / time.Second)
	var b strings.Builder
	for _, u := range []struct {
		size int64
		name byte
	}{{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}} {
		if n := s / u.size; n > 0 {
			fmt.Fprintf(&b, "%d%c", n, u.name)
		}
		s %= u.size
	}
	if b.Len() == 0 {
		return "0s"
	}
	return b.String()
}
