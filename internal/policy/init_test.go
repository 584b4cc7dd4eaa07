package policy

import "go/ast"

// goInInit reports whether an init function of file holds a go statement.
func goInInit(file *ast.File) bool {
	found := false
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Name.Name != "init" || f.Recv != nil {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			_, isGo := n.(*ast.GoStmt)
			found = found || isGo
			return !found
		})
	}
	return found
}
