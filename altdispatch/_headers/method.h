/* Make the calls of a function of dispatcher.py run compiled code. */

#ifndef ALTDISPATCH_METHOD_H
#define ALTDISPATCH_METHOD_H

#include "stack.h"
#include "state.h"

#if PY_VERSION_HEX >= 0x030C0000

/* From Python 3.12, a function can have a vectorcall function of its own. It keeps its
 * identity and its attributes. */

/* The vectorcall function of all other functions. */
static vectorcallfunc function_vectorcall = NULL;

static inline PyObject *
new_method(module_state *state, PyObject *function, vectorcallfunc vectorcall)
{
    function_vectorcall = PyVectorcall_Function(state->owned.log_failure);
    PyFunction_SetVectorcall((PyFunctionObject *)function, vectorcall);
    return Py_NewRef(function);
}

/* Return the function of a method, borrowed. */
static inline PyObject *
method_function(PyObject *self)
{
    return self;
}

/* Have the Python code of the function `self` handle the call. */
static inline PyObject *
call_python(PyObject *self, PyObject *const *args, size_t flagged_count,
            PyObject *names)
{
    PyObject *result = NULL;
    if (enter_level() == 0) {
        result = function_vectorcall(self, args, flagged_count, names);
        Py_LeaveRecursiveCall();
    }
    return result;
}

#else

/* Python 3.11 ignores a function's own vectorcall function. There, an object takes the
 * place of the function, with the function's attributes for introspection. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *function; /* owned */
    PyObject *weak_references;
} method;

static int
method_traverse(method *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->function);
    return 0;
}

static int
method_clear(method *self)
{
    Py_CLEAR(self->function);
    return 0;
}

static void
method_dealloc(method *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->weak_references != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    (void)method_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Return the function, borrowed; NULL with an error after a garbage collection has
 * cleared the method. */
static inline PyObject *
method_function(PyObject *self)
{
    PyObject *function = ((method *)self)->function;
    if (function == NULL) {
        PyErr_SetString(PyExc_ReferenceError, "the method has been collected");
    }
    return function;
}

static inline PyObject *
call_python(PyObject *self, PyObject *const *args, size_t flagged_count,
            PyObject *names)
{
    PyObject *result = NULL;
    PyObject *function = method_function(self);
    if (function != NULL && enter_level() == 0) {
        result = PyObject_Vectorcall(function, args, flagged_count, names);
        Py_LeaveRecursiveCall();
    }
    return result;
}

static PyObject *
method_repr(PyObject *self)
{
    PyObject *function = method_function(self);
    return function == NULL ? NULL : PyObject_Repr(function);
}

/* Return the method itself on a class, and a bound method on an instance, as for a
 * function. */
static PyObject *
method_descr_get(PyObject *self, PyObject *object, PyObject *Py_UNUSED(type))
{
    if (object == NULL || object == Py_None) {
        return Py_NewRef(self);
    }
    return PyMethod_New(self, object);
}

static PyObject *
method_getattro(PyObject *self, PyObject *name)
{
    PyObject *function = method_function(self);
    if (function == NULL) {
        return NULL;
    }
    if (PyUnicode_Check(name)
        && PyUnicode_CompareWithASCIIString(name, "__reduce_ex__") == 0) {
        return PyObject_GenericGetAttr(self, name);
    }
    return PyObject_GetAttr(function, name);
}

static int
method_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    PyObject *function = method_function(self);
    return function == NULL ? -1 : PyObject_SetAttr(function, name, value);
}

/* Pickle and copy by name, as for a function. */
static PyObject *
method_reduce(PyObject *self, PyObject *Py_UNUSED(protocol))
{
    return PyObject_GetAttrString(self, "__qualname__");
}

/* help() reads __doc__ by object.__getattribute__(), which doesn't call tp_getattro. */
static PyObject *
method_doc(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *function = method_function(self);
    return function == NULL ? NULL : PyObject_GetAttrString(function, "__doc__");
}

static PyGetSetDef method_getset[] = {
    {"__doc__", method_doc, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef method_methods[] = {
    {"__reduce_ex__", method_reduce, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef method_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(method, vectorcall), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(method, weak_references), READONLY,
     NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot method_slots[] = {
    {Py_tp_call, PyVectorcall_Call},   {Py_tp_traverse, method_traverse},
    {Py_tp_clear, method_clear},       {Py_tp_dealloc, method_dealloc},
    {Py_tp_repr, method_repr},         {Py_tp_descr_get, method_descr_get},
    {Py_tp_getattro, method_getattro}, {Py_tp_setattro, method_setattro},
    {Py_tp_getset, method_getset},     {Py_tp_methods, method_methods},
    {Py_tp_members, method_members},   {0, NULL},
};

static PyType_Spec method_spec = {
    .name = "altdispatch._speedups.method",
    .basicsize = sizeof(method),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL
             | Py_TPFLAGS_METHOD_DESCRIPTOR | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = method_slots,
};

static inline PyObject *
new_method(module_state *state, PyObject *function, vectorcallfunc vectorcall)
{
    PyTypeObject *type = (PyTypeObject *)state->owned.method_type;
    method *self = (method *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->vectorcall = vectorcall;
        self->function = Py_NewRef(function);
    }
    return (PyObject *)self;
}

#endif

#endif
