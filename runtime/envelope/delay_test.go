package envelope

import (
	"testing"
	"time"
)

func TestFormatDelay(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 999 * time.Millisecond: "0s", 5 * time.Second: "5s", time.Minute: "1m",
		26*time.Hour + 3*time.Minute + 4*time.Second: "1d2h3m4s", 400 * 24 * time.Hour: "400d",
	} {
		if got := FormatDelay(d); got != want {
			t.Errorf("FormatDelay(%v) = %s, want %s", d, got, want)
		}
	}
}
