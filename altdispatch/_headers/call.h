/* Call receivers with the arguments of a send.
 *
 * send(self, sender, **named) gets an array of its arguments, and the names of the last
 * of them. Each receiver is called with the same array, and with names for all of it:
 * `signal`, `sender` and the others. So no argument is copied. */

#ifndef ALTDISPATCH_CALL_H
#define ALTDISPATCH_CALL_H

#include "monitoring.h"
#include "state.h"

/* Set `site->outgoing` to the names that a receiver is called with, for those in
 * `site->incoming`. Leave it NULL if the call is wrong: Python raises the error. Return
 * -1 with an error if there is no memory. */
static int
find_outgoing_names(module_state *state, call_site *site)
{
    Py_ssize_t count = PyTuple_GET_SIZE(site->incoming);
    Py_ssize_t begin = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = PyTuple_GET_ITEM(site->incoming, i);
        if (i == 0 && PyUnicode_CompareWithASCIIString(name, "sender") == 0) {
            begin = 1;
        }
        else if (PyUnicode_CompareWithASCIIString(name, "sender") == 0
                 || PyUnicode_CompareWithASCIIString(name, "signal") == 0
                 || PyUnicode_CompareWithASCIIString(name, "self") == 0) {
            return 0;
        }
    }
    PyObject *outgoing = PyTuple_New(2 + count - begin);
    if (outgoing == NULL) {
        return -1;
    }
    PyTuple_SET_ITEM(outgoing, 0, Py_NewRef(state->names.signal));
    PyTuple_SET_ITEM(outgoing, 1, Py_NewRef(state->names.sender));
    for (Py_ssize_t i = begin; i < count; i++) {
        PyObject *name = PyTuple_GET_ITEM(site->incoming, i);
        PyTuple_SET_ITEM(outgoing, 2 + i - begin, Py_NewRef(name));
    }
    site->outgoing = outgoing;
    site->count = 2 - begin;
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

/* Return the names that the receivers of a send are called with, a new reference, for
 * the names of the send. That is the same tuple each time, unless the call unpacks a
 * dict. Return NULL with an error; or without one if Python has to handle the call, as
 * for names that aren't interned: they aren't from source code, so caching is wasted.
 */
static inline PyObject *
get_outgoing_names(module_state *state, Py_ssize_t count, PyObject *names)
{
    if (names == NULL) {
        return count == 2 ? Py_NewRef(state->names.signal_and_sender) : NULL;
    }
    call_site *site = &state->call_sites[((uintptr_t)names >> 4) % CALL_SITES];
    if (site->incoming != names) {
        if (!are_interned(names)) {
            return NULL;
        }
        /* To free strings and tuples of strings runs none of a program's code. */
        Py_CLEAR(site->outgoing);
        Py_XSETREF(site->incoming, Py_NewRef(names));
        if (find_outgoing_names(state, site) < 0) {
            Py_CLEAR(site->incoming);
            return NULL;
        }
    }
    return site->count == count ? Py_XNewRef(site->outgoing) : NULL;
}

/* Call a receiver, whose reference is taken, and time the call if `timer` isn't NULL.
 * Return (receiver, response), or NULL with an error. */
static inline PyObject *
call_for_pair(module_state *state, PyObject *receiver, PyObject *const *arguments,
              size_t offset_flag, PyObject *names, int robust, stopwatch *timer)
{
    PyObject *response =
        timer == NULL
            ? call_vector(receiver, arguments, offset_flag, names)
            : call_watched(state, receiver, arguments, offset_flag, names, timer);
    if (response == NULL && robust && PyErr_ExceptionMatches(PyExc_Exception)) {
        response = take_raised_exception();
        PyObject *logged = PyObject_CallFunctionObjArgs(
            state->owned.log_failure, arguments[0], receiver, response, NULL);
        if (logged == NULL) {
            Py_CLEAR(response);
        }
        Py_XDECREF(logged);
        if (timer != NULL) {
            timer->now = 0;
        }
    }
    PyObject *pair = response == NULL ? NULL : PyTuple_New(2);
    if (pair == NULL) {
        Py_DECREF(receiver);
        Py_XDECREF(response);
        return NULL;
    }
    PyTuple_SET_ITEM(pair, 0, receiver);
    PyTuple_SET_ITEM(pair, 1, response);
    return pair;
}

/* Call each receiver in a list, whose reference is taken. Return a list of (receiver,
 * response), or NULL with an error. If nothing else refers to the list, its items are
 * replaced one by one: so receivers that aren't called yet have as many references as
 * in Django. */
static inline Py_ALWAYS_INLINE PyObject *
call_each(module_state *state, PyObject *receivers, PyObject *const *arguments,
          size_t offset_flag, PyObject *names, int robust, stopwatch *timer)
{
    int is_reused = Py_REFCNT(receivers) == 1;
    PyObject *responses = is_reused ? Py_NewRef(receivers) : PyList_New(0);
    for (Py_ssize_t i = 0; responses != NULL && i < PyList_GET_SIZE(receivers); i++) {
        PyObject *pair = call_for_pair(state, Py_NewRef(PyList_GET_ITEM(receivers, i)),
                                       arguments, offset_flag, names, robust, timer);
        int failed = -1;
        if (pair != NULL) {
            failed = is_reused ? PyList_SetItem(responses, i, Py_NewRef(pair))
                               : PyList_Append(responses, pair);
            Py_DECREF(pair);
        }
        if (failed < 0) {
            Py_CLEAR(responses);
        }
    }
    Py_DECREF(receivers);
    return responses;
}

static PyObject *
call_all(module_state *state, PyObject *receivers, PyObject *const *arguments,
         size_t offset_flag, PyObject *names, int robust)
{
    return call_each(state, receivers, arguments, offset_flag, names, robust, NULL);
}

/* Do what call_all() does while monitoring is on, and count the send. */
static PyObject *
call_all_watched(module_state *state, PyObject *receivers, PyObject *const *arguments,
                 size_t offset_flag, PyObject *names, int robust, int is_heard)
{
    int is_watched = count_send(state, arguments[0], is_heard);
    PyObject *strand = is_watched > 0 ? find_strand(state) : NULL;
    if (is_watched < 0 || (is_watched && strand == NULL)) {
        Py_DECREF(receivers);
        return NULL;
    }
    stopwatch timer = {is_watched ? get_numbers(strand) : NULL, 0};
    PyObject *responses = call_each(state, receivers, arguments, offset_flag, names,
                                    robust, is_watched ? &timer : NULL);
    Py_XDECREF(strand);
    return responses;
}

/* Return the keyword arguments of a send, without its sender, as a new dict; NULL with
 * an error. `names` are those of the receivers' arguments. */
static PyObject *
get_named(PyObject *const *arguments, PyObject *names)
{
    PyObject *named = PyDict_New();
    for (Py_ssize_t i = 2; named != NULL && i < PyTuple_GET_SIZE(names); i++) {
        if (PyDict_SetItem(named, PyTuple_GET_ITEM(names, i), arguments[i]) < 0) {
            Py_CLEAR(named);
        }
    }
    return named;
}

#endif
