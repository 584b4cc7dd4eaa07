package compile

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// JSONVersion is the version of what DumpJSON writes. A field may be added
// without a new version; one that goes or changes its meaning needs it.
const JSONVersion = 1

// DumpJSON writes the Ruleset as one JSON object:
//
//	{"version": 1, "ruleset": {"server_name": "...", "tables": [...], ...}}
//
// Its members are the fields of the struct in snake case. Tables, actions
// and filters are referred to by name; a rule without "action" rejects; time
// spans are written as in smtpd.conf; a criterion has "sign" "is" or "not".
// Strings, flags, references and lists that are empty are left out, numbers
// never. Of keys, and of the files that configure tables, only the length is written.
func (rs *Ruleset) DumpJSON(w io.Writer) error {
	j := jsonWriter{rs: rs, Writer: bufio.NewWriter(w)}
	fmt.Fprintf(j, `{"version":%d,"ruleset":`, JSONVersion)
	j.value(reflect.ValueOf(rs).Elem())
	j.WriteString("}\n")
	return j.Flush()
}

// A jsonWriter writes values. encoding/json cannot do it: what an id refers
// to is known to the Ruleset alone.
type jsonWriter struct {
	rs *Ruleset
	*bufio.Writer
	scratch bytes.Buffer
}

func (j *jsonWriter) value(v reflect.Value) {
	switch x := v.Interface().(type) {
	case netip.Addr:
		j.text(x.String())
	case time.Duration:
		j.text(formatDelay(x))
	case TableID:
		j.text(j.rs.Table(x).Name)
	case ActionID:
		j.text(j.rs.Action(x).Name)
	case FilterID:
		j.text(j.rs.Filter(x).Name)
	case byte: // the one that is no enumeration is a character
		j.text(string(rune(x)))
	case fmt.Stringer:
		j.text(x.String())
	default:
		j.plain(v)
	}
}

func (j *jsonWriter) plain(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		j.WriteByte('{')
		first := true
		j.fields(v, &first)
		j.WriteByte('}')
	case reflect.Slice:
		j.WriteByte('[')
		for i := range v.Len() {
			if i > 0 {
				j.WriteByte(',')
			}
			j.value(v.Index(i))
		}
		j.WriteByte(']')
	case reflect.String:
		j.text(v.String())
	case reflect.Bool:
		j.WriteString(strconv.FormatBool(v.Bool()))
	case reflect.Int, reflect.Int64:
		j.WriteString(strconv.FormatInt(v.Int(), 10))
	default:
		j.WriteString(strconv.FormatUint(v.Uint(), 10))
	}
}

// fields writes the members of a struct; those of an embedded one are its
// own.
func (j *jsonWriter) fields(v reflect.Value, first *bool) {
	for i := range v.NumField() {
		f, field := v.Field(i), v.Type().Field(i)
		if field.Anonymous {
			j.fields(f, first)
			continue
		}
		if absent(f) {
			continue
		}
		if !*first {
			j.WriteByte(',')
		}
		*first = false
		j.text(memberName(field.Name))
		j.WriteByte(':')
		if isSecret(v.Type(), field.Name) {
			fmt.Fprintf(j, `{"bytes":%d}`, f.Len())
			continue
		}
		j.value(f)
	}
}

// absent reports whether a field says nothing: only plain numbers mean
// something when they are zero.
func absent(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Int, reflect.Int64, reflect.Uint16:
		return false
	case reflect.Uint8:
		return v.IsZero() && v.Type() != reflect.TypeFor[byte]()
	case reflect.Slice:
		return v.Len() == 0
	case reflect.Struct:
		return v.IsZero()
	}
	return v.IsZero()
}

// isSecret reports whether a field holds a key or a password.
func isSecret(t reflect.Type, field string) bool {
	switch t {
	case reflect.TypeFor[Queue]():
		return field == "Key"
	case reflect.TypeFor[SRS]():
		return field == "Key" || field == "Backup"
	case reflect.TypeFor[Table]():
		return field == "Config"
	}
	return false
}

// text writes a string. Bytes that are not UTF-8 become U+FFFD, as JSON
// cannot hold them.
func (j *jsonWriter) text(s string) {
	j.scratch.Reset()
	e := json.NewEncoder(&j.scratch)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(err) // a string is always encodable
	}
	j.Write(bytes.TrimSuffix(j.scratch.Bytes(), []byte("\n")))
}

// memberName returns a field's name in snake case: "max_conn_per_host",
// "pki", "smtp", "add_ttl".
func memberName(field string) string {
	var b strings.Builder
	runes := []rune(field)
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
