package policy

import "net/netip"

// Strict reads the values of a YAML file that is no policy but goes with policies, such as the cases
// of `sallyport policy test`: what is unknown, twice, missing or of the wrong type is an error with
// its line and field, and all errors of the file are told at once.
type Strict struct{ d *decoder }

// Value is one value of the file and where it stands.
type Value struct{ v value }

// Line returns the line that the value begins in, from 1.
func (v Value) Line() int { return v.v.node.Line }

// Field is one field that a mapping can have.
type Field struct {
	Name     string
	Read     func(Value)
	Required string // what to write, where the field must be there; else ""
}

// ReadStrict visits every document of a file: YAML or JSON. name stands in the errors. The error is nil
// or an Errors; what the visits made of a file with an error must not be used.
func ReadStrict(name string, data []byte, document func(*Strict, Value)) error {
	s := &Strict{&decoder{file: name}}
	s.d.documents(data, func(v value) { document(s, Value{v}) })
	if errs := s.d.told(); errs != nil {
		return errs
	}
	return nil
}

// Fail reports that a value is wrong, and if hint is not empty what would be right.
func (s *Strict) Fail(v Value, hint, message string) { s.d.fail(v.v, hint, "%s", message) }

// Refuse reports that the field of a mapping is wrong.
func (s *Strict) Refuse(v Value, field, hint, message string) {
	s.d.fail(value{s.d.resolve(v.v).node, join(v.v.path, field)}, hint, "%s", message)
}

// Mapping reads the fields of a mapping. It returns the names that are there; ok is false where the
// value is no mapping.
func (s *Strict) Mapping(v Value, fields ...Field) (present map[string]bool, ok bool) {
	known := make([]field, len(fields))
	for i, f := range fields {
		known[i] = field{name: f.Name, parse: func(v value) { f.Read(Value{v}) }}
	}
	there, ok := s.d.object(v.v, known)
	if !ok {
		return nil, false
	}
	present = make(map[string]bool, len(there))
	for name := range there {
		present[name] = true
	}
	for _, f := range fields {
		if f.Required != "" {
			s.d.require(v.v, there, f.Name, f.Required)
		}
	}
	return present, true
}

// List returns the items of a list that must not be empty.
func (s *Strict) List(v Value) []Value {
	return some(s.d, v.v, "it would say nothing", func(v value) Value { return Value{v} })
}

// IsList says whether a value is a list, for fields that hold one thing or several.
func (s *Strict) IsList(v Value) bool { return kind(s.d.resolve(v.v).node) == "a list" }

// Text reads a string; ok is false where the value is none.
func (s *Strict) Text(v Value) (text string, ok bool) { return s.d.text(v.v) }

// Labels reads a mapping of label keys to strings.
func (s *Strict) Labels(v Value) map[string]string { return s.d.labels(v.v) }

// ID reads a numeric user or group id.
func (s *Strict) ID(v Value) uint32 { return s.d.id(v.v) }

// Port reads a port, quoted or not.
func (s *Strict) Port(v Value) uint16 {
	port, _ := s.d.portNumber(v.v, false)
	return port
}

// ICMPType reads the type of a message of ICMP or ICMPv6, by number or by name.
func (s *Strict) ICMPType(v Value, protocol uint8) uint8 { return s.d.icmpType(v.v, protocol) }

// CIDR reads a CIDR or a single address.
func (s *Strict) CIDR(v Value) netip.Prefix { return s.d.cidr(v.v) }

// Word reads one of a set of words.
func Word[T ~string](s *Strict, v Value, words ...T) T { return enum(s.d, v.v, words, nil) }

// Quote shows a value of a file in a message: bounded, on one line and harmless.
func Quote(text string) string { return quote(text) }
