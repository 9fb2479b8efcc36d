/* Differences between the releases of CPython, and all private API that altdispatch
 * uses, each with the public API that could replace it. */

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

/* Declares a variable of which each thread has its own. */
#ifdef _MSC_VER
#define THREAD_LOCAL __declspec(thread)
#else
#define THREAD_LOCAL _Thread_local
#endif

/* weakref.ref. Public: PyImport_ImportModule("weakref") and its attribute `ref`. */
#define REFERENCE_TYPE ((PyObject *)&_PyWeakref_RefType)

/* Return a new reference to the object of a weak reference; NULL, without an error, if
 * the object is dead. */
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

/* Return whether `reference` is a weak reference to an object. */
static inline int
is_reference_to(PyObject *reference, PyObject *object)
{
    if (!PyWeakref_CheckRefExact(reference)) {
        return 0;
    }
    PyObject *found = referent(reference);
    Py_XDECREF(found);
    return found == object;
}

/* Return a new reference to an item of a dict; NULL, without an error, if there is
 * none; or NULL with an error. */
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

/* Clear the current error and return it, a new reference. */
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

/* Set an error that take_raised_exception() has returned. Takes the reference. */
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

/* Return how many bits a number that isn't negative has. */
static inline int
bit_length(int64_t number)
{
#ifdef __GNUC__
    return number == 0 ? 0 : 64 - __builtin_clzll((unsigned long long)number);
#else
    int length = 0;
    for (; number != 0; number >>= 1) {
        length++;
    }
    return length;
#endif
}

/* Look up an attribute that may be missing. Return 1 with a new reference in `*found`;
 * 0 if there is none; -1 with an error. Public: PyObject_GetOptionalAttr(), from 3.13.
 * Before, PyObject_GetAttr() creates an error for each missing attribute. */
static inline int
optional_attribute(PyObject *object, PyObject *name, PyObject **found)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyObject_GetOptionalAttr(object, name, found);
#else
    return _PyObject_LookupAttr(object, name, found);
#endif
}

/* Call an object. Public: PyObject_Vectorcall(). For functions, this leaves out the
 * checks of that, which take a twentieth of a send's time. */
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

/* Look up a name in a class and its bases. Return a borrowed reference; NULL, without
 * an error, if there is none. Public: PyObject_GetOptionalAttr(), from 3.13, which
 * binds descriptors and so may run a program's code. */
static inline PyObject *
type_attribute(PyTypeObject *type, PyObject *name)
{
    return _PyType_Lookup(type, name);
}

/* Return a number that only this class has, and only until the class or a base of it is
 * changed; 0 if it has no number. Public: PyType_Watch(), from 3.12, which takes one of
 * the interpreter's eight watchers. */
static inline unsigned int
type_version(PyTypeObject *type)
{
    return type->tp_version_tag;
}

/* Return the offset of a slot in the instances of a class; -1, without an error, if the
 * class has no such slot. Public: PyObject_GetAttr(), for each instance. */
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

/* Return a borrowed reference to the value of a slot; NULL, without an error, if it is
 * empty. */
static inline PyObject *
get_slot(PyObject *object, Py_ssize_t offset)
{
    return *(PyObject **)((char *)object + offset);
}

#endif
