package openapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// object is a JSON object whose members keep their order and, unless they are
// touched, their bytes.
type object struct {
	names   []string
	members map[string]json.RawMessage
}

func parse(content []byte) (*object, error) {
	o := &object{members: make(map[string]json.RawMessage)}
	if err := json.Unmarshal(content, &o.members); err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	if _, err := decoder.Token(); err != nil { // the brace
		return nil, err
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		o.names = append(o.names, fmt.Sprint(name))
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// set gives a member a value; one that is new comes last.
func (o *object) set(name string, value any) error {
	var content bytes.Buffer
	encoder := json.NewEncoder(&content)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return err
	}
	if _, there := o.members[name]; !there {
		o.names = append(o.names, name)
	}
	o.members[name] = content.Bytes()
	return nil
}

func (o *object) delete(name string) {
	delete(o.members, name)
	o.names = slices.DeleteFunc(o.names, func(other string) bool { return other == name })
}

// edit changes a member that is an object.
func (o *object) edit(name string, change func(*object) error) error {
	member, err := parse(o.members[name])
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := change(member); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return o.set(name, member)
}

// each changes the items of a member that is a list of objects.
func (o *object) each(name string, change func(*object) error) error {
	var items []json.RawMessage
	if err := json.Unmarshal(o.members[name], &items); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	changed := make([]*object, len(items))
	for i, item := range items {
		var err error
		if changed[i], err = parse(item); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := change(changed[i]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return o.set(name, changed)
}

// filter takes items out of a member that is a list, if it is there.
func (o *object) filter(name string, unwanted func(json.RawMessage) bool) error {
	if o.members[name] == nil {
		return nil
	}
	var items []json.RawMessage
	if err := json.Unmarshal(o.members[name], &items); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	kept := slices.DeleteFunc(items, unwanted)
	if len(kept) == len(items) {
		return nil
	}
	return o.set(name, kept)
}

// MarshalJSON implements json.Marshaler.
func (o *object) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	out.WriteByte('{')
	for i, name := range o.names {
		if i > 0 {
			out.WriteByte(',')
		}
		quoted, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		out.Write(quoted)
		out.WriteByte(':')
		out.Write(o.members[name])
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// indented is the object as JSON for people.
func (o *object) indented() ([]byte, error) {
	content, err := o.MarshalJSON()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, content, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}
