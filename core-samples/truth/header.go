package truth

import (
	"fmt"
	"unsafe"
)

// Header is what a map's own header says, in the terms of its layout. It serves the samples to
// stop a map in a wanted state, and the tests as truth about that state.
type Header struct {
	classic *hmap
	swiss   *swissMap
	tables  []*swissTable
	groups  []swissGroups
}

// hmap is runtime.hmap (src/runtime/map.go, Go 1.21-1.23; map_noswiss.go, 1.24 and 1.25).
type hmap struct {
	count      int
	flags      uint8
	B          uint8
	noverflow  uint16
	hash0      uint32
	buckets    unsafe.Pointer
	oldbuckets unsafe.Pointer
	nevacuate  uintptr
	extra      unsafe.Pointer
}

// swissMap is the start of internal/runtime/maps.Map (Go 1.24-1.27).
type swissMap struct {
	used        uint64
	seed        uintptr
	dirPtr      unsafe.Pointer
	dirLen      int
	globalDepth uint8
	globalShift uint8
	writing     uint8
}

// swissTable is internal/runtime/maps.table (Go 1.24-1.27).
type swissTable struct {
	used       uint16
	capacity   uint16
	growthLeft uint16
	localDepth uint8
	index      int
	groups     swissGroups
}

type swissGroups struct {
	data       unsafe.Pointer
	lengthMask uint64
}

// groupSizeOffset is where the type descriptor of a Swiss map has GroupSize (Go 1.24-1.27).
const groupSizeOffset = 80

const (
	sameSizeGrow = 8
	ctrlDeleted  = 0xFE
)

// Describe reads the header of a map passed as an interface. A nil map has an empty Header.
func Describe(m any) Header {
	word := (*[2]unsafe.Pointer)(unsafe.Pointer(&m))
	return describe(word[0], word[1])
}

func describe(typ, header unsafe.Pointer) Header {
	if header == nil {
		return Header{}
	}
	if !Swiss {
		return Header{classic: (*hmap)(header)}
	}
	h := Header{swiss: (*swissMap)(header)}
	size := *(*uintptr)(unsafe.Add(typ, groupSizeOffset))
	if h.swiss.dirLen == 0 && h.swiss.dirPtr != nil {
		h.addGroups(h.swiss.dirPtr, 0, size)
	}
	for i := 0; i < h.swiss.dirLen; i++ {
		t := *(**swissTable)(unsafe.Add(h.swiss.dirPtr, uintptr(i)*unsafe.Sizeof(uintptr(0))))
		if t.index == i {
			h.tables = append(h.tables, t)
			h.addGroups(t.groups.data, t.groups.lengthMask, size)
		}
	}
	return h
}

func (h *Header) addGroups(data unsafe.Pointer, lengthMask uint64, size uintptr) {
	for i := uintptr(0); i <= uintptr(lengthMask); i++ {
		h.groups = append(h.groups, swissGroups{data: unsafe.Add(data, i*size)})
	}
}

// Growing says that a classic map is being moved to a new bucket array.
func (h Header) Growing() bool { return h.classic != nil && h.classic.oldbuckets != nil }

// SameSize says that a classic map is being moved to an array of the same size.
func (h Header) SameSize() bool { return h.Growing() && h.classic.flags&sameSizeGrow != 0 }

// Overflow is a classic map's count of overflow buckets and of buckets.
func (h Header) Overflow() (overflow, buckets int) {
	if h.classic == nil {
		return 0, 0
	}
	return int(h.classic.noverflow), 1 << h.classic.B
}

// SharedTable says that some Swiss table stands in the directory more than once.
func (h Header) SharedTable() bool {
	for _, t := range h.tables {
		if t.localDepth < h.swiss.globalDepth {
			return true
		}
	}
	return false
}

// Tombstones counts the deleted slots of a Swiss map.
func (h Header) Tombstones() int {
	n := 0
	for _, g := range h.groups {
		for _, c := range (*[8]uint8)(g.data) {
			if c == ctrlDeleted {
				n++
			}
		}
	}
	return n
}

func (h Header) json() string {
	switch {
	case h.classic != nil:
		m := h.classic
		return fmt.Sprintf(`{"count":%d,"flags":%d,"B":%d,"noverflow":%d,"hash0":"0x%x","buckets":"%#x","oldbuckets":"%#x","nevacuate":%d}`,
			m.count, m.flags, m.B, m.noverflow, m.hash0, uintptr(m.buckets), uintptr(m.oldbuckets), m.nevacuate)
	case h.swiss != nil:
		m := h.swiss
		return fmt.Sprintf(`{"used":%d,"seed":"0x%x","dirPtr":"%#x","dirLen":%d,"globalDepth":%d,"tables":%d,"groups":%d,"shared":%t,"tombstones":%d}`,
			m.used, m.seed, uintptr(m.dirPtr), m.dirLen, m.globalDepth, len(h.tables), len(h.groups), h.SharedTable(), h.Tombstones())
	}
	return "null"
}
