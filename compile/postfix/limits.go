package postfix

import (
	"fmt"
	"strconv"
	"strings"

	"smtpd/lang/diag"
)

// limits converts what holds for the whole server.
func (im *importer) limits() {
	if n, err := strconv.ParseInt(im.value("message_size_limit"), 10, 64); err == nil && n > 0 {
		im.settings = append(im.settings, fmt.Sprintf("smtp max-message-size %d", n))
	} else if n == 0 && err == nil {
		im.settings = append(im.settings, fmt.Sprintf("smtp max-message-size %d", int64(1)<<62))
	} else {
		im.notCarried("message_size_limit")
	}
	if n, err := strconv.ParseInt(im.value("smtpd_recipient_limit"), 10, 32); err == nil && n > 0 && n != 1000 {
		im.settings = append(im.settings, fmt.Sprintf("smtp limit max-rcpt %d", n))
	}
	im.delimiter()
	im.queue()
}

// delimiter converts what separates a user from a tag.
func (im *importer) delimiter() {
	const name = "recipient_delimiter"
	switch d := im.value(name); {
	case d == "":
		im.note(im.main.lookup(name), diag.Portability, "postfix-delimiter",
			"Postfix was told of no delimiter before the tag of an address; here it is +, so that mail for user+tag is for user")
	case d[0] <= ' ' || d[0] >= 0x7f || strings.IndexByte(`"\@`, d[0]) >= 0:
		im.notCarried(name)
	default:
		if len(d) > 1 {
			im.note(im.main.lookup(name), diag.Warning, "postfix-delimiter", "of the delimiters %q only the first is carried over", clip(d))
		}
		if d[0] != '+' {
			im.settings = append(im.settings, "smtp sub-addr-delim "+quote(d[:1]))
		}
	}
}

// queue converts how long mail stays and when its sender hears of a delay.
func (im *importer) queue() {
	ttl, ok := seconds(im.value("maximal_queue_lifetime"), 'd')
	if !ok || ttl == 0 {
		im.notCarried("maximal_queue_lifetime")
		ttl = 5 * 86400
	}
	im.settings = append(im.settings, "queue ttl "+delay(ttl))
	if bounce, ok := seconds(im.value("bounce_queue_lifetime"), 'd'); ok && bounce != ttl && im.main.set("bounce_queue_lifetime") {
		im.notCarried("bounce_queue_lifetime")
	}
	warn, ok := seconds(im.value("delay_warning_time"), 'h')
	if !ok {
		im.notCarried("delay_warning_time")
	}
	if warn == 0 {
		// Reports of a delay cannot be switched off. None falls due after
		// the mail is gone.
		warn = ttl + 86400
	}
	im.settings = append(im.settings, "bounce warn-interval "+delay(warn))
}

// seconds reads a time of Postfix.
func seconds(text string, unit byte) (n int64, ok bool) {
	digits := strings.TrimRight(text, "smhdw")
	if len(text)-len(digits) > 1 {
		return 0, false
	}
	if digits != text {
		unit = text[len(text)-1]
	}
	v, err := strconv.ParseUint(digits, 10, 20)
	if err != nil {
		return 0, false
	}
	n = int64(v) * map[byte]int64{'s': 1, 'm': 60, 'h': 3600, 'd': 86400, 'w': 7 * 86400}[unit]
	return n, n <= 1000*86400
}

// delay writes a time in the largest unit.
func delay(n int64) string {
	switch {
	case n%86400 == 0:
		return fmt.Sprintf("%dd", n/86400)
	case n%3600 == 0:
		return fmt.Sprintf("%dh", n/3600)
	}
	return fmt.Sprintf("%ds", n)
}
