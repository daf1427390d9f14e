package apidoc

import (
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// translateCEL translates a CEL rule of the contract to JSON Schema. It returns false if JSON
// Schema cannot express the rule, for example a comparison of two fields.
func translateCEL(field protoreflect.FieldDescriptor, expression string) (demands, bool, error) {
	env, err := cel.NewEnv(cel.Variable("this", cel.DynType))
	if err != nil {
		return nil, false, err
	}
	parsed, issues := env.Parse(expression)
	if issues.Err() != nil {
		return nil, false, issues.Err()
	}
	if field.Kind() == protoreflect.EnumKind {
		return admittedValues(env, parsed, field)
	}
	d, ok := translateExpr(field, parsed.NativeRep().Expr())
	return d, ok, nil
}

// admittedValues evaluates the rule for each value of the enum.
func admittedValues(env *cel.Env, parsed *cel.Ast, field protoreflect.FieldDescriptor) (demands, bool, error) {
	program, err := env.Program(parsed)
	if err != nil {
		return nil, false, err
	}
	d := make(demands)
	values := field.Enum().Values()
	for i := range values.Len() {
		value := values.Get(i)
		out, _, err := program.Eval(map[string]any{"this": int64(value.Number())})
		if err != nil {
			return nil, false, err
		}
		if out.Value() != true {
			d.merge(not(string(value.Name())))
		}
	}
	return d, true, nil
}

func translateExpr(field protoreflect.FieldDescriptor, e ast.Expr) (demands, bool) {
	if e.Kind() == ast.SelectKind {
		return translateFlag(field, e.AsSelect())
	}
	if e.Kind() != ast.CallKind {
		return nil, false
	}
	call := e.AsCall()
	if call.IsMemberFunction() {
		switch {
		case !isThis(call.Target()):
		case call.FunctionName() == "matches" && len(call.Args()) == 1:
			expression, ok := literal(call.Args()[0]).(string)
			return pattern(expression), ok
		case call.FunctionName() == "isUri":
			return demands{"format": "uri"}, true
		}
		return nil, false
	}
	if len(call.Args()) != 2 {
		return nil, false
	}
	left, right := call.Args()[0], call.Args()[1]
	switch call.FunctionName() {
	case operators.LogicalOr, operators.LogicalAnd:
		first, ok1 := translateExpr(field, left)
		second, ok2 := translateExpr(field, right)
		if !ok1 || !ok2 {
			return nil, false
		}
		if call.FunctionName() == operators.LogicalOr {
			return first.or(second), true
		}
		first.merge(second)
		return first, true
	case operators.In:
		return translateIn(left, right)
	default:
		return translateSize(call.FunctionName(), left, right)
	}
}

// translateSize translates a comparison of size(this) with a number.
func translateSize(operator string, left, right ast.Expr) (demands, bool) {
	if left.Kind() != ast.CallKind || left.AsCall().FunctionName() != "size" || len(left.AsCall().Args()) != 1 || !isThis(left.AsCall().Args()[0]) {
		return nil, false
	}
	number, ok := literal(right).(int64)
	size := int(number)
	switch operator {
	case operators.Equals:
		if size == 0 {
			return demands{"maxLength": 0}, ok
		}
		return demands{"minLength": size, "maxLength": size}, ok
	case operators.Greater:
		return demands{"minLength": size + 1}, ok
	case operators.LessEquals:
		return demands{"maxLength": size}, ok
	}
	return nil, false
}

func translateIn(left, right ast.Expr) (demands, bool) {
	if !isThis(left) || right.Kind() != ast.ListKind {
		return nil, false
	}
	var values []string
	for _, element := range right.AsList().Elements() {
		value, ok := literal(element).(string)
		if !ok {
			return nil, false
		}
		values = append(values, value)
	}
	return demands{"enum": values}, true
}

// translateFlag translates this.flag, where flag is a bool field that must be true.
func translateFlag(field protoreflect.FieldDescriptor, selected ast.SelectExpr) (demands, bool) {
	if field.Message() == nil || !isThis(selected.Operand()) || selected.IsTestOnly() {
		return nil, false
	}
	flag := field.Message().Fields().ByName(protoreflect.Name(selected.FieldName()))
	if flag == nil || flag.Kind() != protoreflect.BoolKind {
		return nil, false
	}
	return demands{
		"required":   []string{flag.JSONName()},
		"properties": object{flag.JSONName(): object{"const": true}},
	}, true
}

func isThis(e ast.Expr) bool { return e.Kind() == ast.IdentKind && e.AsIdent() == "this" }

func literal(e ast.Expr) any {
	if e.Kind() != ast.LiteralKind {
		return fmt.Errorf("not a literal")
	}
	return e.AsLiteral().Value()
}
