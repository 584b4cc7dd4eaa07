package main

import (
	"strings"
	"testing"
)

func TestServe(t *testing.T) {
	const in = `config|smtpd-version|7.8.0
config|protocol|0.7
config|ready
filter|0.7|1.000000|smtp-in|ehlo|s1|t1|MX.example.org
filter|0.7|1.000000|smtp-in|ehlo|s2|t2|client|with|bars
filter|0.7|1.000000|smtp-in|data-line|s2|t3|Subject: a|b
filter|0.7|1.000000|smtp-in|data-line|s2|t3|.
filter|0.7|1.000000|smtp-in|data-line|s2|t4|.
report|0.7|1.000000|smtp-in|link-disconnect|s2
filter|0.7|1.000000|smtp-in|data-line|s2|t5|.
`
	const want = `register|filter|smtp-in|helo
register|filter|smtp-in|ehlo
register|filter|smtp-in|data-line
register|report|smtp-in|link-disconnect
register|ready
filter-result|s1|t1|reject|550 5.7.1 That is my name
filter-result|s2|t2|proceed
filter-dataline|s2|t3|X-Greeting: client|with|bars
filter-dataline|s2|t3|Subject: a|b
filter-dataline|s2|t3|.
filter-dataline|s2|t4|X-Greeting: client|with|bars
filter-dataline|s2|t4|.
filter-dataline|s2|t5|X-Greeting: 
filter-dataline|s2|t5|.
`
	var out strings.Builder
	if err := serve(strings.NewReader(in), &out, []string{"mx.example.org"}); err != nil {
		t.Fatal(err)
	}
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	if err := serve(strings.NewReader("filter|0.7|short\n"), &out, nil); err == nil {
		t.Error("a request without its fields was taken")
	}
}
