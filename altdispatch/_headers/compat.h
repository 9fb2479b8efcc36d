/* What differs between the releases of CPython, and all of its private API that
 * altdispatch uses. Everything else in here is documented API. */

#ifndef ALTDISPATCH_COMPAT_H
#define ALTDISPATCH_COMPAT_H

#include <Python.h>
#include <structmember.h>

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

/* Return whether what `reference`, a weak one, refers to is alive. With the GIL, it is
 * as simple as that. */
static inline int
is_alive(PyObject *reference)
{
    PyObject *object = ((PyWeakReference *)reference)->wr_object;
    return object != Py_None && Py_REFCNT(object) != 0;
}

/* Return a new reference to what `reference` refers to, or NULL, without an error, if
 * that is dead. */
static inline PyObject *
referent(PyObject *reference)
{
    return is_alive(reference) ? Py_NewRef(((PyWeakReference *)reference)->wr_object)
                               : NULL;
}

/* Return whether `reference`, a weak one, refers to `object`, which is alive. */
static inline int
refers_to(PyObject *reference, PyObject *object)
{
    return ((PyWeakReference *)reference)->wr_object == object;
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

/* Find an attribute that may be missing. Return 1 with a new reference in `*found`; 0
 * without an error; or -1 with one. */
static inline int
optional_attribute(PyObject *object, PyObject *name, PyObject **found)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyObject_GetOptionalAttr(object, name, found);
#else
    return _PyObject_LookupAttr(object, name, found);
#endif
}

/* Return a borrowed reference to the `__dict__` of an object whose attributes are
 * found by the generic rules, or NULL, without an error, if it has none. */
static inline PyObject *
instance_dict(PyObject *object)
{
    PyObject **dict = _PyObject_GetDictPtr(object);
    return dict == NULL ? NULL : *dict;
}

/* Return a borrowed reference to what a class has under a name, by itself or by a
 * base, or NULL, without an error. */
static inline PyObject *
type_attribute(PyTypeObject *type, PyObject *name)
{
    return _PyType_Lookup(type, name);
}

/* Return a number that no other class has, and the class itself only until it or a
 * base is changed; 0 if there is none. */
static inline unsigned int
type_version(PyTypeObject *type)
{
    return type->tp_version_tag;
}

#endif
