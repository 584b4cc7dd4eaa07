package ast

import (
	"reflect"

	"smtpd/lang/token"
)

// Inspect calls f for n and then, if f returned true, for every node below
// it, in the order of the fields, which is that of the text. Nodes are
// pointers to the structs of this package; those that are fields by value
// are passed by their address.
func Inspect(n any, f func(n any) bool) {
	v := reflect.ValueOf(n)
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		inspect(v, f)
	}
}

var (
	posType     = reflect.TypeFor[token.Pos]()
	fileSetType = reflect.TypeFor[token.FileSet]()
	badType     = reflect.TypeFor[*Bad]()
)

// inspect visits the node that v points to.
func inspect(v reflect.Value, f func(any) bool) {
	if !f(v.Interface()) || v.Type() == badType {
		return
	}
	node := v.Elem()
	for i := range node.NumField() {
		inspectField(node.Field(i), f)
	}
}

func inspectField(v reflect.Value, f func(any) bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() && v.Elem().Kind() == reflect.Struct && v.Type().Elem() != fileSetType {
			inspect(v, f)
		}
	case reflect.Slice:
		for i := range v.Len() {
			inspectField(v.Index(i), f)
		}
	case reflect.Struct:
		if v.Type() != posType {
			inspect(v.Addr(), f)
		}
	}
}
