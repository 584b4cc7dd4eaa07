package postfix

import (
	"fmt"
	"strings"

	"smtpd/lang/token"
)

// A service is an entry of master.cf.
type service struct {
	name, kind string // such as smtp and inet
	command    string // such as smtpd
	args       []string
	*scope     // its parameters
	at         token.Pos
}

// readMaster reads the services of master.cf. Their parameters are over those
// of main.cf.
func readMaster(name string, text []byte, main *scope) ([]*service, error) {
	lines, err := logical(name, text)
	if err != nil {
		return nil, err
	}
	var list []*service
	for _, l := range lines {
		at := token.Pos{Filename: name, Line: l.num, Column: 1}
		fields := fieldsOf(l.text)
		if len(fields) < 8 {
			return nil, &syntaxError{at, fmt.Sprintf("%q is no service: want name, type, five settings and a command", clip(l.text))}
		}
		sv := &service{name: fields[0], kind: fields[1], command: fields[7], at: at,
			scope: &scope{params: make(map[string]*param), outer: main}}
		if err := sv.arguments(fields[8:]); err != nil {
			return nil, &syntaxError{at, err.Error()}
		}
		list = append(list, sv)
	}
	return list, nil
}

// arguments takes the options of a command, of which -o sets a parameter.
func (sv *service) arguments(fields []string) error {
	for len(fields) > 0 {
		arg := fields[0]
		fields = fields[1:]
		setting, isOption := strings.CutPrefix(arg, "-o")
		if !isOption || len(sv.args) > 0 {
			sv.args = append(sv.args, arg)
			continue
		}
		if setting == "" {
			if len(fields) == 0 {
				return fmt.Errorf("-o without a setting")
			}
			setting, fields = fields[0], fields[1:]
		}
		setting = strings.Trim(setting, blanks)
		key, value, ok := strings.Cut(setting, "=")
		key = strings.Trim(key, blanks)
		if !ok || key == "" {
			return fmt.Errorf("-o %s: want name=value", clip(setting))
		}
		sv.params[key] = &param{key, strings.Trim(value, blanks), sv.at}
	}
	return nil
}

// fieldsOf splits a line at blanks; what stands in braces is one field.
func fieldsOf(text string) []string {
	var list []string
	for {
		text = strings.TrimLeft(text, blanks)
		if text == "" {
			return list
		}
		if inside, rest, ok := bracketed(text); ok && text[0] == '{' && (rest == "" || strings.IndexByte(blanks, rest[0]) >= 0) {
			list, text = append(list, inside), rest
			continue
		}
		n := strings.IndexAny(text, blanks)
		if n < 0 {
			n = len(text)
		}
		list, text = append(list, text[:n]), text[n:]
	}
}
