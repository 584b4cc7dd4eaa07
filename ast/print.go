package ast

import (
	"fmt"
	"io"
	"reflect"
	"strings"

	"smtpd/lang/token"
)

// Fprint writes f in a form that is stable and easy to compare: one node a
// line with the line where it begins, its plain fields behind it, and below
// it what it holds. Fields that were not written are left out.
func Fprint(w io.Writer, f *File) error {
	p := printer{w: w}
	for _, st := range f.Stmts {
		p.fields("Stmt", reflect.ValueOf(st).Elem(), 0)
	}
	return p.err
}

type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(depth int, text string) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, "%s%s\n", strings.Repeat("  ", depth), text)
	}
}

// fields writes the node v under a label, and then what is below it.
func (p *printer) fields(label string, v reflect.Value, depth int) {
	if s, ok := v.Interface().(Str); ok {
		p.line(depth, fmt.Sprintf("%s %q", label, s.Text))
		return
	}
	if n, ok := v.Interface().(Num); ok {
		p.line(depth, fmt.Sprintf("%s %s", label, n.Text))
		return
	}
	head := label
	for i := range v.NumField() {
		head += plainField(v.Type().Field(i).Name, v.Field(i))
	}
	p.line(depth, head)
	if v.Addr().Type() == badType {
		return
	}
	for i := range v.NumField() {
		p.field(v.Type().Field(i).Name, v.Field(i), depth+1)
	}
}

// plainField returns what the line of a node says of a field that is no node.
func plainField(name string, v reflect.Value) string {
	switch x := v.Interface().(type) {
	case token.Pos:
		if name == "Pos" && x.IsValid() {
			return fmt.Sprintf(" @%d:%d", x.Line, x.Column)
		}
	case bool:
		if x {
			return " " + name
		}
	case string:
		if x != "" {
			return fmt.Sprintf(" %s=%s", name, x)
		}
	case []string:
		return fmt.Sprintf(" %s=%q", name, x)
	}
	return ""
}

func (p *printer) field(name string, v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			p.fields(name, v.Elem(), depth)
		}
	case reflect.Struct:
		if v.Type() != posType {
			p.fields(name, v, depth)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Pointer {
			for i := range v.Len() {
				p.fields(name, v.Index(i).Elem(), depth)
			}
		}
	}
}
