package truth

import (
	"fmt"
	"reflect"
	"sync"
	"unsafe"
)

// DescribeSync is a sync.Map's state as JSON: of the read-only and dirty maps in the older layout;
// whether it was ever used, in the newer one.
func DescribeSync(m *sync.Map) string {
	v := reflect.ValueOf(m).Elem()
	if v.FieldByName("dirty").IsValid() {
		// src/sync/map.go, Go 1.21-1.23: read is an atomic.Pointer to {m map; amended bool}.
		s := (*struct {
			mu   [8]byte
			read *struct {
				m       map[any]unsafe.Pointer
				amended bool
			}
			dirty  map[any]unsafe.Pointer
			misses int
		})(unsafe.Pointer(m))
		if s.read == nil {
			return `{"read":0,"amended":false,"dirty":null,"misses":0}`
		}
		dirty := "null"
		if s.dirty != nil {
			dirty = fmt.Sprint(len(s.dirty))
		}
		return fmt.Sprintf(`{"read":%d,"amended":%t,"dirty":%s,"misses":%d}`, len(s.read.m), s.read.amended, dirty, s.misses)
	}
	// src/internal/sync/hashtriemap.go, Go 1.24-1.27: inited is the trie's first word.
	return fmt.Sprintf(`{"inited":%t}`, *(*uint32)(unsafe.Pointer(m)) != 0)
}

// CheckSync compares a sync.Map with the program's record of it, by Range; this may change the map's state.
func CheckSync(name string, m *sync.Map, want []Entry) error {
	got := 0
	var wrong error
	m.Range(func(key, elem any) bool {
		got++
		for _, e := range want {
			if e.Key == key && reflect.DeepEqual(e.Elem, elem) || key != key && e.Key != e.Key {
				return true
			}
		}
		wrong = fmt.Errorf("%s holds %v: %v, which was not recorded", name, key, elem)
		return true
	})
	if wrong == nil && got != len(want) {
		wrong = fmt.Errorf("%s holds %d entries, recorded are %d", name, got, len(want))
	}
	return wrong
}
