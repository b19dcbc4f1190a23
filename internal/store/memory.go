package store

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
)

var _ Store = (*Memory)(nil)

// Memory keeps objects in memory: for tests and for simulated runs. The zero value
// is not ready; use NewMemory.
type Memory struct {
	mu       sync.Mutex
	objects  map[string][]byte // contents are never altered
	used     int64             // bytes in objects
	capacity int64             // bytes; negative: without limit
}

// NewMemory gives an empty store without a limit of space.
func NewMemory() *Memory { return &Memory{objects: map[string][]byte{}, capacity: -1} }

// SetCapacity limits the sum of all objects, in bytes; what is there stays. A
// negative value takes the limit away.
func (m *Memory) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

// CrashClone is the store as the next process would find it if this one died now:
// finished objects are there, unfinished ones are not.
func (m *Memory) CrashClone() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &Memory{objects: maps.Clone(m.objects), used: m.used, capacity: m.capacity}
}

// Location implements [Store].
func (m *Memory) Location() string { return "memory" }

// Create implements [Store].
func (m *Memory) Create(ctx context.Context, name string, data []byte) error {
	if err := enter(ctx, name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.objects[name]; ok {
		return fmt.Errorf("create %s: %w", name, ErrExists)
	}
	if err := m.set(name, bytes.Clone(data)); err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	return nil
}

// Put implements [Store].
func (m *Memory) Put(ctx context.Context, name string, write func(io.Writer) error) (Object, error) {
	if err := enter(ctx, name); err != nil {
		return Object{}, err
	}
	var content bytes.Buffer
	digest := newDigestWriter(ctx, &content)
	if err := write(digest); err != nil {
		return Object{}, fmt.Errorf("put %s: %w", name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.set(name, content.Bytes()); err != nil {
		return Object{}, fmt.Errorf("put %s: %w", name, err)
	}
	return digest.object(name), nil
}

// set stores an object; mu is held. As on a disk, old and new content take space
// at the same time.
func (m *Memory) set(name string, data []byte) error {
	if m.capacity >= 0 && m.used+int64(len(data)) > m.capacity {
		return ErrFull
	}
	m.used += int64(len(data) - len(m.objects[name]))
	m.objects[name] = data
	return nil
}

// Open implements [Store].
func (m *Memory) Open(ctx context.Context, name string) (File, int64, error) {
	if err := enter(ctx, name); err != nil {
		return nil, 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.objects[name]
	if !ok {
		return nil, 0, fmt.Errorf("open %s: %w", name, ErrNotFound)
	}
	return memoryFile{bytes.NewReader(data)}, int64(len(data)), nil
}

// memoryFile has no more methods than File: bytes.Reader would offer a position.
type memoryFile struct{ io.ReaderAt }

func (memoryFile) Close() error { return nil }

// List implements [Store].
func (m *Memory) List(ctx context.Context, prefix string) ([]Object, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var objects []Object
	for _, name := range slices.Sorted(maps.Keys(m.objects)) {
		if strings.HasPrefix(name, prefix) {
			objects = append(objects, Object{Name: name, Size: int64(len(m.objects[name]))})
		}
	}
	return objects, nil
}

// Delete implements [Store].
func (m *Memory) Delete(ctx context.Context, name string) error {
	if err := enter(ctx, name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.objects[name]
	if !ok {
		return fmt.Errorf("delete %s: %w", name, ErrNotFound)
	}
	m.used -= int64(len(data))
	delete(m.objects, name)
	return nil
}

// FreeBytes implements [Store].
func (m *Memory) FreeBytes(ctx context.Context) (int64, bool, error) {
	if err := context.Cause(ctx); err != nil {
		return 0, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.capacity < 0 {
		return 0, false, nil
	}
	return max(0, m.capacity-m.used), true, nil
}
