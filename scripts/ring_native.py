"""The optional C extension of hastack.ebpf: records of ring buffers counted and unpacked in C.

usage: ring_native.py [DIR]     build it into DIR, which then holds hastack/ebpf/_native.*.so

``HASTACK_COMPILE=1 pip install`` builds it too, when cffi and a C compiler are there. It is small on
purpose: it does what comes per record, and keeps the order of loads and stores that the kernel's
protocol asks for. Everything else is the same code as without it.
"""

from __future__ import annotations

import sys
from typing import Any

NAME = "hastack.ebpf._native"

DECLARATIONS = """
uint64_t hastack_load(const void *word);
void hastack_store(void *word, uint64_t value);
uint32_t hastack_header(const void *record);
uint32_t hastack_run(const void *record, uint32_t step, uint32_t header, uint32_t most);
struct hastack_item { char kind; uint32_t offset; uint32_t size; };
int hastack_rows(size_t rows, const char *record, uint32_t step, uint32_t count,
                 const struct hastack_item *items, uint32_t width);
"""

SOURCE = """
#include <stdint.h>
#include <string.h>

/* Acquire and release: kernel/bpf/ringbuf.c writes a record before its header and its position. */
static uint64_t hastack_load(const void *word)
{
    return __atomic_load_n((const uint64_t *)word, __ATOMIC_ACQUIRE);
}

static void hastack_store(void *word, uint64_t value)
{
    __atomic_store_n((uint64_t *)word, value, __ATOMIC_RELEASE);
}

static uint32_t hastack_header(const void *record)
{
    return __atomic_load_n((const uint32_t *)record, __ATOMIC_ACQUIRE);
}

/* How many records of `step` bytes with that very header follow each other. */
static uint32_t hastack_run(const void *record, uint32_t step, uint32_t header, uint32_t most)
{
    const char *at = record;
    uint32_t count = 0;
    while (count < most && hastack_header(at) == header) {
        at += step;
        count++;
    }
    return count;
}

struct hastack_item { char kind; uint32_t offset; uint32_t size; };

#define NUMBER(type, make) { type v; memcpy(&v, at, sizeof(v)); return make(v); }

static PyObject *hastack_value(const struct hastack_item *item, const char *at)
{
    switch (item->kind) {
    case 'b': NUMBER(int8_t, PyLong_FromLong)
    case 'B': NUMBER(uint8_t, PyLong_FromLong)
    case 'h': NUMBER(int16_t, PyLong_FromLong)
    case 'H': NUMBER(uint16_t, PyLong_FromLong)
    case 'i': NUMBER(int32_t, PyLong_FromLong)
    case 'I': NUMBER(uint32_t, PyLong_FromUnsignedLong)
    case 'q': NUMBER(int64_t, PyLong_FromLongLong)
    case 'Q': NUMBER(uint64_t, PyLong_FromUnsignedLongLong)
    case 'f': NUMBER(float, PyFloat_FromDouble)
    case 'd': NUMBER(double, PyFloat_FromDouble)
    case '?': return PyBool_FromLong(*at != 0);
    default: return PyBytes_FromStringAndSize(at, item->size);
    }
}

static int hastack_same(const char *a, const char *b, uint32_t size)
{
    if (size == 8)
        return !memcmp(a, b, 8);
    if (size == 4)
        return !memcmp(a, b, 4);
    return !memcmp(a, b, size);
}

/* Append one tuple per record to a list; 0, or -1 when memory has run out. cffi has given the
   interpreter's lock back, so it is taken again; the list is the caller's alone. */
static int hastack_rows(size_t rows, const char *record, uint32_t step, uint32_t count,
                        const struct hastack_item *items, uint32_t width)
{
    PyGILState_STATE state = PyGILState_Ensure();
    int failed = 0;
    PyObject *before = NULL;
    for (uint32_t n = 0; n < count && !failed; n++, record += step) {
        PyObject *row = PyTuple_New(width);
        if (row == NULL) {
            failed = -1;
            break;
        }
        for (uint32_t i = 0; i < width; i++) {
            /* Names and process ids repeat: what is the same as one record before is that object. */
            const char *at = record + items[i].offset;
            PyObject *value;
            if (before != NULL && hastack_same(at, at - step, items[i].size)) {
                value = PyTuple_GET_ITEM(before, i);
                Py_INCREF(value);
            } else {
                value = hastack_value(items + i, at);
            }
            if (value == NULL) {
                failed = -1;
                break;
            }
            PyTuple_SET_ITEM(row, i, value);
        }
        /* Numbers and bytes only: nothing that the garbage collector would have to look into. */
        PyObject_GC_UnTrack(row);
        if (!failed)
            failed = PyList_Append((PyObject *)rows, row);
        Py_DECREF(row); /* the list holds it, and with it `before` */
        before = row;
    }
    if (failed)
        PyErr_Clear();
    PyGILState_Release(state);
    return failed;
}
"""


def builder() -> Any:
    """Cffi's description of the extension."""
    from cffi import FFI

    ffi = FFI()
    ffi.cdef(DECLARATIONS)
    # The fast macros of Python.h are not part of its limited interface.
    macros = [("_CFFI_NO_LIMITED_API", None)]
    ffi.set_source(NAME, SOURCE, extra_compile_args=["-O2"], define_macros=macros)
    return ffi


if __name__ == "__main__":
    builder().compile(tmpdir=sys.argv[1] if sys.argv[1:] else "src", verbose=False)
