/* What differs between the releases of CPython, and all of its private API that
 * altdispatch uses, each with what is public and would do. */

#ifndef ALTDISPATCH_COMPAT_H
#define ALTDISPATCH_COMPAT_H

#include <Python.h>
#include <structmember.h>
#ifdef _WIN32
#include <windows.h>
#else
#include <time.h>
#endif

#if PY_VERSION_HEX < 0x030B0000
#error "altdispatch needs Python 3.11 or newer"
#endif
#if defined(PYPY_VERSION) || defined(Py_GIL_DISABLED)
#error "altdispatch is compiled only for CPython with the GIL"
#endif

/* What each thread has one of. */
#ifdef _MSC_VER
#define THREAD_LOCAL __declspec(thread)
#else
#define THREAD_LOCAL _Thread_local
#endif

/* weakref.ref. What is public is PyImport_ImportModule("weakref") and its attribute. */
#define REFERENCE_TYPE ((PyObject *)&_PyWeakref_RefType)

/* Return a new reference to what `reference`, a weak one, refers to; NULL, without an
 * error, if that is dead. */
static inline PyObject *
referent(PyObject *reference)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *object;
    return PyWeakref_GetRef(reference, &object) == 1 ? object : NULL;
#else
    PyObject *object = PyWeakref_GetObject(reference);
    return object == Py_None ? NULL : Py_NewRef(object);
#endif
}

/* Find an item of a dict. Return a new reference; NULL if there is none, or with an
 * error. */
static inline PyObject *
dict_item(PyObject *dict, PyObject *key)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *item;
    (void)PyDict_GetItemRef(dict, key, &item);
    return item;
#else
    return Py_XNewRef(PyDict_GetItemWithError(dict, key));
#endif
}

/* Return the error that is set, a new reference, and unset it. */
static inline PyObject *
take_raised_exception(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(error, traceback);
    }
    Py_XDECREF(traceback);
    Py_DECREF(type);
    return error;
#endif
}

/* Set an error again that take_raised_exception() gave; the reference goes. */
static inline void
raise_exception(PyObject *error)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(error);
#else
    PyErr_Restore(Py_NewRef(Py_TYPE(error)), error, PyException_GetTraceback(error));
#endif
}

/* Return the nanoseconds of time.perf_counter_ns(). */
static inline int64_t
read_clock(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyTime_t now;
    (void)PyTime_PerfCounterRaw(&now);
    return now;
#elif defined(_WIN32)
    LARGE_INTEGER now, frequency;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&frequency);
    return (int64_t)((double)now.QuadPart / (double)frequency.QuadPart * 1e9);
#elif defined(__APPLE__)
    return (int64_t)clock_gettime_nsec_np(CLOCK_UPTIME_RAW);
#else
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * (int64_t)1000000000 + now.tv_nsec;
#endif
}

/* Find an attribute that may be missing. Return 1 with a new reference in `*found`; 0
 * without an error; or -1 with one. What is public before 3.13, PyObject_GetAttr(),
 * makes an error each time that there is none. */
static inline int
optional_attribute(PyObject *object, PyObject *name, PyObject **found)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyObject_GetOptionalAttr(object, name, found);
#else
    return _PyObject_LookupAttr(object, name, found);
#endif
}

/* Call an object as PyObject_Vectorcall(), which is public, does. Functions are called
 * without what that checks: a twentieth of the time. */
static inline PyObject *
call_vector(PyObject *callable, PyObject *const *arguments, size_t flagged_count,
            PyObject *names)
{
    if (PyFunction_Check(callable)) {
        return ((PyFunctionObject *)callable)
            ->vectorcall(callable, arguments, flagged_count, names);
    }
    return PyObject_Vectorcall(callable, arguments, flagged_count, names);
}

/* Return a borrowed reference to what a class has under a name, by itself or by a
 * base, or NULL, without an error. What is public, PyObject_GetOptionalAttr() (3.13),
 * binds what it finds, and so may run code. */
static inline PyObject *
type_attribute(PyTypeObject *type, PyObject *name)
{
    return _PyType_Lookup(type, name);
}

/* Return a number that no other class has, and the class itself only until it or a
 * base is changed; 0 if there is none. What is public, PyType_Watch() (3.12), needs one
 * of eight watchers of the interpreter. */
static inline unsigned int
type_version(PyTypeObject *type)
{
    return type->tp_version_tag;
}

/* Find where in the objects of a class one of its slots is; -1, without an error, if it
 * has no such slot. What is public is PyObject_GetAttr(), each time. */
static inline Py_ssize_t
find_slot(PyObject *type, const char *name)
{
    Py_ssize_t offset = -1;
    PyObject *slot = PyObject_GetAttrString(type, name);
    if (slot == NULL) {
        PyErr_Clear();
    }
    else if (Py_IS_TYPE(slot, &PyMemberDescr_Type)) {
        offset = ((PyMemberDescrObject *)slot)->d_member->offset;
    }
    Py_XDECREF(slot);
    return offset;
}

/* Return what is in a slot of an object, borrowed; NULL, without an error, if nothing
 * is. */
static inline PyObject *
get_slot(PyObject *object, Py_ssize_t offset)
{
    return *(PyObject **)((char *)object + offset);
}

#endif
