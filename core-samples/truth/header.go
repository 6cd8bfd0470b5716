package truth

import (
	"fmt"
	"unsafe"
)

// Header is what a map's own header says, in the terms of its layout. It serves the samples to
// stop a map in a wanted state, and the tests as truth about that state.
type Header struct {
	classic   *hmap
	swiss     *swissMap
	groupSize uintptr
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
	groups     unsafe.Pointer
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
	return Header{swiss: (*swissMap)(header), groupSize: *(*uintptr)(unsafe.Add(typ, groupSizeOffset))}
}

// eachTable passes every table of a Swiss map's directory once. It allocates nothing, because with the
// collector off a sample that asks after each insertion would grow without end.
func (h Header) eachTable(visit func(*swissTable)) {
	for i := 0; h.swiss != nil && i < h.swiss.dirLen; i++ {
		t := *(**swissTable)(unsafe.Add(h.swiss.dirPtr, uintptr(i)*unsafe.Sizeof(uintptr(0))))
		if t.index == i {
			visit(t)
		}
	}
}

func (h Header) eachGroup(visit func(controls *[8]uint8)) {
	if h.swiss.dirLen == 0 && h.swiss.dirPtr != nil {
		visit((*[8]uint8)(h.swiss.dirPtr))
	}
	h.eachTable(func(t *swissTable) {
		for i := uintptr(0); i <= uintptr(t.lengthMask); i++ {
			visit((*[8]uint8)(unsafe.Add(t.groups, i*h.groupSize)))
		}
	})
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
	shared := false
	h.eachTable(func(t *swissTable) { shared = shared || t.localDepth < h.swiss.globalDepth })
	return shared
}

// slots counts the groups of a Swiss map and the deleted slots in them.
func (h Header) slots() (groups, tombstones int) {
	h.eachGroup(func(controls *[8]uint8) {
		groups++
		for _, c := range controls {
			if c == ctrlDeleted {
				tombstones++
			}
		}
	})
	return groups, tombstones
}

func (h Header) json() string {
	switch {
	case h.classic != nil:
		m := h.classic
		return fmt.Sprintf(`{"count":%d,"flags":%d,"B":%d,"noverflow":%d,"hash0":"0x%x","buckets":"%#x","oldbuckets":"%#x","nevacuate":%d}`,
			m.count, m.flags, m.B, m.noverflow, m.hash0, uintptr(m.buckets), uintptr(m.oldbuckets), m.nevacuate)
	case h.swiss != nil:
		m, tables := h.swiss, 0
		h.eachTable(func(*swissTable) { tables++ })
		groups, tombstones := h.slots()
		return fmt.Sprintf(`{"used":%d,"seed":"0x%x","dirPtr":"%#x","dirLen":%d,"globalDepth":%d,"tables":%d,"groups":%d,"shared":%t,"tombstones":%d}`,
			m.used, m.seed, uintptr(m.dirPtr), m.dirLen, m.globalDepth, tables, groups, h.SharedTable(), tombstones)
	}
	return "null"
}
