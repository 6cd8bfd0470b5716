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
		at := func(name string) unsafe.Pointer {
			return unsafe.Pointer(v.FieldByName(name).UnsafeAddr())
		}
		// src/sync/map.go: read is an atomic.Pointer in Go 1.20-1.23, an atomic.Value before: its second word.
		where := at("read")
		if v.FieldByName("read").Type().Size() == 16 {
			where = unsafe.Add(where, 8)
		}
		read := *(**struct {
			m       map[any]unsafe.Pointer
			amended bool
		})(where)
		if read == nil {
			return `{"read":0,"amended":false,"dirty":null,"misses":0}`
		}
		dirty := "null"
		if m := *(*map[any]unsafe.Pointer)(at("dirty")); m != nil {
			dirty = fmt.Sprint(len(m))
		}
		misses := *(*int)(at("misses"))
		return fmt.Sprintf(`{"read":%d,"amended":%t,"dirty":%s,"misses":%d}`, len(read.m), read.amended, dirty, misses)
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
