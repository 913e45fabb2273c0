package config

import (
	"reflect"
	"strings"
	"time"
)

// leaf is one key that can be set.
type leaf struct {
	key   string // alerts.syslog.network
	kind  string // as messages name it
	value any    // of the Config that was walked
}

// The kinds of values.
const (
	kindText     = "a string"
	kindNumber   = "a whole number"
	kindBool     = "true or false"
	kindDuration = `a duration such as "10s" or "100ms"`
	kindList     = "a list of strings"
)

// leaves lists the keys of a configuration in the order of its types, with its values.
func leaves(c Config) []leaf {
	var out []leaf
	walk(reflect.ValueOf(c), "", &out)
	return out
}

func walk(v reflect.Value, prefix string, out *[]leaf) {
	for i := range v.NumField() {
		key := join(prefix, v.Type().Field(i).Tag.Get("mapstructure"))
		field := v.Field(i)
		if field.Kind() == reflect.Struct {
			walk(field, key, out)
			continue
		}
		*out = append(*out, leaf{key: key, kind: kindOf(field), value: field.Interface()})
	}
}

func kindOf(v reflect.Value) string {
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		return kindDuration
	case v.Kind() == reflect.Slice:
		return kindList
	case v.Kind() == reflect.Bool:
		return kindBool
	case v.Kind() == reflect.Int:
		return kindNumber
	}
	return kindText
}

func join(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}

// envName is the environment variable of a key: SALLYPORT_ALERTS_SYSLOG_NETWORK.
func envName(key string) string {
	return envPrefix + "_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}
