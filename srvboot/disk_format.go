package srvboot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// quoteLimit is how much of a damaged file an error quotes, in bytes: enough to recognize it, too little to flood a log.
const quoteLimit = 48

// hintForeign is for files of another node, hintDamaged for those of this one.
const (
	hintForeign = "start this node with its own data directory, name and bundle"
	hintDamaged = "stop etcd-dns, move the damaged file away, start it: etcd/ says who it is, and without etcd/ it is a node that lost its disk"
)

// decodeState reads one of the three files. An error quotes what was read.
func decodeState(data []byte, into stateFile) error {
	if len(bytes.TrimSpace(bytes.Trim(data, "\x00"))) == 0 {
		return fmt.Errorf("damaged: %d bytes, all of them zero or white space", len(data))
	}
	// The format comes first: of a newer file nothing else is certain.
	var head struct {
		Format *json.Number `json:"format"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return fmt.Errorf("damaged, it begins with %s: %w", quoteStart(data), err)
	}
	if head.Format == nil {
		return fmt.Errorf("damaged, it has no format number and begins with %s", quoteStart(data))
	}
	if f, err := head.Format.Int64(); err != nil || f != Format {
		return withHint(fmt.Errorf("its format is %s, but this program reads format %d", *head.Format, Format), "run the newer etcd-dns that wrote it")
	}
	if err := into.UnmarshalJSON(data); err != nil {
		return fmt.Errorf("damaged, it begins with %s: %w", quoteStart(data), err)
	}
	return into.validate()
}

func quoteStart(data []byte) string {
	if len(data) > quoteLimit {
		return fmt.Sprintf("%q…", data[:quoteLimit])
	}
	return fmt.Sprintf("%q", data)
}

func (m *Marker) validate() error {
	switch m.Phase {
	case Fresh, Promised, Joining, Running, Removed, FencedOff:
	case Accepted, Born:
		if m.Accepted == nil {
			return fmt.Errorf("damaged: phase %s without an accepted genesis", m.Phase)
		}
	default:
		return fmt.Errorf("damaged: phase %q is not one that this program knows", m.Phase)
	}
	if m.Bundle == "" || m.Node == "" {
		return fmt.Errorf("damaged: it names bundle %q and node %q, neither may be empty", m.Bundle, m.Node)
	}
	return nil
}

func (i *Identity) validate() error {
	if i.Life > 0 && i.Boot == "" {
		return fmt.Errorf("damaged: life %d without a boot nonce", i.Life)
	}
	return nil
}

func (s *Seen) validate() error { return nil }

// The plain types have the fields without the methods, so that the codecs below do not call themselves.
type (
	plainMarker   Marker
	plainIdentity Identity
	plainSeen     Seen
)

// UnmarshalJSON keeps unknown fields in Unknown.
func (m *Marker) UnmarshalJSON(data []byte) error {
	p, unknown, err := splitObject[plainMarker](data)
	if err == nil {
		*m = Marker(p)
		m.Unknown = unknown
	}
	return err
}

// UnmarshalJSON keeps unknown fields in Unknown.
func (i *Identity) UnmarshalJSON(data []byte) error {
	p, unknown, err := splitObject[plainIdentity](data)
	if err == nil {
		*i = Identity(p)
		i.Unknown = unknown
	}
	return err
}

// UnmarshalJSON keeps unknown fields in Unknown.
func (s *Seen) UnmarshalJSON(data []byte) error {
	p, unknown, err := splitObject[plainSeen](data)
	if err == nil {
		*s = Seen(p)
		s.Unknown = unknown
	}
	return err
}

// MarshalJSON writes the fields in Unknown back.
func (m Marker) MarshalJSON() ([]byte, error) { return joinObject(plainMarker(m), m.Unknown) }

// MarshalJSON writes the fields in Unknown back.
func (i Identity) MarshalJSON() ([]byte, error) { return joinObject(plainIdentity(i), i.Unknown) }

// MarshalJSON writes the fields in Unknown back.
func (s Seen) MarshalJSON() ([]byte, error) { return joinObject(plainSeen(s), s.Unknown) }

// splitObject decodes the fields of T and returns the members of the object that no field of T takes.
func splitObject[T any](data []byte) (v T, unknown map[string]json.RawMessage, err error) {
	if err := json.Unmarshal(data, &unknown); err != nil {
		return v, nil, err
	}
	if unknown == nil {
		return v, nil, errors.New("null instead of an object")
	}
	for name := range unknown {
		if knownField(reflect.TypeFor[T](), name) {
			delete(unknown, name)
		}
	}
	if len(unknown) == 0 {
		unknown = nil
	}
	err = json.Unmarshal(data, &v)
	return v, unknown, err
}

// knownField matches names without regard to case, as encoding/json does.
func knownField(t reflect.Type, name string) bool {
	for i := range t.NumField() {
		tag, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if strings.EqualFold(tag, name) {
			return true
		}
	}
	return false
}

// joinObject encodes v, an object, and appends the unknown fields.
func joinObject(v any, unknown map[string]json.RawMessage) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil || len(unknown) == 0 {
		return data, err
	}
	extra, err := json.Marshal(unknown)
	if err != nil {
		return nil, fmt.Errorf("unknown fields: %w", err)
	}
	// Both are objects; every one of the three types has a member that is always there.
	out := append(data[:len(data)-1], ',')
	return append(out, extra[1:]...), nil
}
