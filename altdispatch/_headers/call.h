/* From the arguments of a send to those of the calls that come of it. */

#ifndef ALTDISPATCH_CALL_H
#define ALTDISPATCH_CALL_H

#include "state.h"

#define SMALL_CALL 16

/* A send, `send(self, sender, **named)`, as it was called. */
typedef struct {
    PyObject *signal; /* borrowed from the caller, as are all the arguments */
    PyObject *sender;
    PyObject *const *named; /* the keyword arguments, maybe with the sender */
    Py_ssize_t position;    /* the sender's position among them, or -1 */
    PyObject *names;        /* owned by end_call(): what the receivers' are called */
    PyObject **arguments;   /* the receivers' arguments; the item before is free */
    PyObject *small[1 + SMALL_CALL];
} call;

/* Find the names that a receiver is called with, for `site->incoming`: first `signal`
 * and `sender`, then the others. Leave NULL where the call isn't plainly right, for
 * Python to raise the error that is due. Return -1 with an error if there's no memory.
 */
static int
find_outgoing_names(module_state *state, call_site *site)
{
    Py_ssize_t count = PyTuple_GET_SIZE(site->incoming);
    site->sender = -1;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = PyTuple_GET_ITEM(site->incoming, i);
        if (PyUnicode_CompareWithASCIIString(name, "sender") == 0) {
            site->sender = i;
        }
        else if (PyUnicode_CompareWithASCIIString(name, "signal") == 0
                 || PyUnicode_CompareWithASCIIString(name, "self") == 0) {
            return 0;
        }
    }
    PyObject *outgoing = PyTuple_New(2 + count - (site->sender >= 0));
    if (outgoing == NULL) {
        return -1;
    }
    PyTuple_SET_ITEM(outgoing, 0, Py_NewRef(state->names.signal));
    PyTuple_SET_ITEM(outgoing, 1, Py_NewRef(state->names.sender));
    for (Py_ssize_t i = 0, next = 2; i < count; i++) {
        if (i != site->sender) {
            PyObject *name = PyTuple_GET_ITEM(site->incoming, i);
            PyTuple_SET_ITEM(outgoing, next++, Py_NewRef(name));
        }
    }
    site->outgoing = outgoing;
    return 0;
}

static int
are_interned(PyObject *names)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        if (!PyUnicode_CheckExact(name) || !PyUnicode_CHECK_INTERNED(name)) {
            return 0;
        }
    }
    return 1;
}

/* Return what is known of the call site whose keyword names are `names`, a tuple that
 * is the same object each time unless the call unpacks a dict. Return NULL, without an
 * error, if they are not interned: those of no source would be kept for nothing; and
 * NULL with an error if there's no memory. It's good until Python code runs. */
static inline call_site *
find_call_site(module_state *state, PyObject *names)
{
    call_site *site = &state->call_sites[((size_t)names >> 4) % CALL_SITES];
    if (site->incoming == names) {
        return site;
    }
    if (!are_interned(names)) {
        return NULL;
    }
    /* Strings, and tuples of them, run no code of anybody's when they go. */
    Py_CLEAR(site->outgoing);
    Py_XSETREF(site->incoming, Py_NewRef(names));
    if (find_outgoing_names(state, site) < 0) {
        Py_CLEAR(site->incoming);
        return NULL;
    }
    return site;
}

/* Read the arguments of a send into `call`. Return 1; or 0, without an error, if they
 * are for Python to look at; or -1 with an error. After 1, end_call() is due. */
static inline int
begin_call(module_state *state, call *call, PyObject *const *args, Py_ssize_t count,
           PyObject *names)
{
    call->arguments = NULL;
    call->position = -1;
    call->named = args + count;
    if (names == NULL) {
        if (count != 2) {
            return 0;
        }
        call->signal = args[0];
        call->sender = args[1];
        call->names = Py_NewRef(state->names.signal_and_sender);
        return 1;
    }
    call_site *site = find_call_site(state, names);
    if (site == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    if (site->outgoing == NULL || count != (site->sender < 0 ? 2 : 1)) {
        return 0;
    }
    call->signal = args[0];
    call->position = site->sender;
    call->sender = site->sender < 0 ? args[1] : call->named[site->sender];
    call->names = Py_NewRef(site->outgoing);
    return 1;
}

/* Read the keyword arguments of a call from a dict; `*values` keeps what is in it.
 * Return 1; or 0, without an error, if they are for Python to look at; or -1 with an
 * error. After 1, end_call() is due, and the values are owned by the caller. */
static inline int
begin_call_of_dict(module_state *state, call *call, PyObject *named, PyObject **values)
{
    int is_wrong = PyDict_Contains(named, state->names.signal);
    if (is_wrong != 0) {
        return is_wrong < 0 ? -1 : 0;
    }
    Py_ssize_t count = PyDict_GET_SIZE(named);
    *values = PyTuple_New(count);
    call->names = PyTuple_New(2 + count);
    /* To make them may have run code that changed the dict. */
    if (*values == NULL || call->names == NULL || PyDict_GET_SIZE(named) != count) {
        Py_XDECREF(*values);
        Py_XDECREF(call->names);
        return PyErr_Occurred() ? -1 : 0;
    }
    PyTuple_SET_ITEM(call->names, 0, Py_NewRef(state->names.signal));
    PyTuple_SET_ITEM(call->names, 1, Py_NewRef(state->names.sender));
    PyObject *name, *value;
    Py_ssize_t place = 0;
    for (Py_ssize_t i = 0; PyDict_Next(named, &place, &name, &value); i++) {
        PyTuple_SET_ITEM(call->names, 2 + i, Py_NewRef(name));
        PyTuple_SET_ITEM(*values, i, Py_NewRef(value));
    }
    call->arguments = NULL;
    call->named = ((PyTupleObject *)*values)->ob_item;
    call->position = -1;
    return 1;
}

/* Set out the arguments that every receiver gets. Return -1 with an error if there's
 * no memory. They are borrowed: the caller of the send has them until it returns. */
static inline int
set_out_arguments(call *call)
{
    Py_ssize_t count = PyTuple_GET_SIZE(call->names);
    PyObject **room = call->small;
    if (count > SMALL_CALL) {
        room = PyMem_New(PyObject *, 1 + count);
        if (room == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    /* The first item is for a bound method to put its object into. */
    call->arguments = room + 1;
    call->arguments[0] = call->signal;
    call->arguments[1] = call->sender;
    PyObject *const *named = call->named;
    for (Py_ssize_t i = 2; i < count; i++, named++) {
        if (named - call->named == call->position) {
            named++;
        }
        call->arguments[i] = *named;
    }
    return 0;
}

/* Return a receiver's response, a new reference, or NULL with its error. */
static inline PyObject *
call_receiver(call *call, PyObject *receiver)
{
    /* The two kinds that nearly all are, as PyObject_Vectorcall() would call them. */
    if (PyFunction_Check(receiver)) {
        return ((PyFunctionObject *)receiver)
            ->vectorcall(receiver, call->arguments, PY_VECTORCALL_ARGUMENTS_OFFSET,
                         call->names);
    }
    if (PyMethod_Check(receiver) && PyFunction_Check(PyMethod_GET_FUNCTION(receiver))) {
        PyObject *function = PyMethod_GET_FUNCTION(receiver);
        call->arguments[-1] = PyMethod_GET_SELF(receiver);
        return ((PyFunctionObject *)function)
            ->vectorcall(function, call->arguments - 1, 1, call->names);
    }
    return PyObject_Vectorcall(receiver, call->arguments,
                               PY_VECTORCALL_ARGUMENTS_OFFSET, call->names);
}

static inline void
end_call(call *call)
{
    if (call->arguments != NULL && call->arguments != call->small + 1) {
        PyMem_Free(call->arguments - 1);
    }
    Py_DECREF(call->names);
}

#endif
