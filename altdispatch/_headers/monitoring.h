/* Count sends and time receivers: see altdispatch/watching.py and rows.py. */

#ifndef ALTDISPATCH_MONITORING_H
#define ALTDISPATCH_MONITORING_H

#include "state.h"

/* The positions of the numbers in a row: see rows.py. */
enum { SENDS = 0, UNHEARD = 1 };
enum { CALLS, ERRORS, TOTAL, LONGEST, OWN, BUCKETS, MOST_BUCKETS = 48 };

static inline int64_t *
get_numbers(PyObject *view)
{
    return PyMemoryView_GET_BUFFER(view)->buf;
}

/* Times the calls of a send. A call begins when the one before it ended, so the clock
 * is read once a call, unless something else took time in between. */
typedef struct {
    int64_t *inside; /* the number of the strand: see altdispatch/watching.py */
    int64_t now;     /* 0: read the clock */
} stopwatch;

/* Return the counts of a receiver, or those of the signal if `receiver` is the signal,
 * a new reference; NULL with an error. The table has four places for each hash. */
static PyObject *
find_counts(module_state *state, PyObject *signal, PyObject *receiver, stopwatch *timer)
{
    PyObject *known =
        PyMethod_Check(receiver) ? PyMethod_GET_FUNCTION(receiver) : receiver;
    uint64_t hash = (uint64_t)(uintptr_t)signal * 31 + (uint64_t)(uintptr_t)known;
    PyObject **first =
        &state->owned.rows[(hash * 0x9E3779B97F4A7C15) >> 53 & (ROWS - 4)];
    PyObject **entry = first;
    for (; entry < first + 4 && *entry != NULL; entry++) {
        if (is_reference_to(PyTuple_GET_ITEM(*entry, 0), signal)
            && is_reference_to(PyTuple_GET_ITEM(*entry, 1), known)) {
            return Py_NewRef(PyTuple_GET_ITEM(*entry, 2));
        }
    }
    timer->now = 0;
    PyObject *found =
        PyObject_CallFunctionObjArgs(state->owned.find_counts, signal, receiver, NULL);
    if (found == NULL) {
        return NULL;
    }
    PyObject *counts = Py_NewRef(PyTuple_GET_ITEM(found, 2));
    /* To free tuples of weak references and numbers runs none of a program's code. */
    Py_XSETREF(*(entry < first + 4 ? entry : first + (hash >> 4) % 4), found);
    return counts;
}

/* Count a send. Return whether to time its receivers; -1 with an error. Sends by
 * subscribers are neither counted nor timed. */
static int
count_send(module_state *state, PyObject *signal, int is_heard)
{
    stopwatch timer;
    PyObject *is_silent;
    if (PyContextVar_Get(state->owned.is_silent, NULL, &is_silent) < 0) {
        return -1;
    }
    Py_DECREF(is_silent);
    if (is_silent == Py_True) {
        return 0;
    }
    PyObject *counts = find_counts(state, signal, signal, &timer);
    if (counts == NULL) {
        return -1;
    }
    get_numbers(counts)[SENDS]++;
    get_numbers(counts)[UNHEARD] += !is_heard;
    Py_DECREF(counts);
    return 1;
}

static inline void
count_call(int64_t *counts, int64_t duration, int64_t own, int has_failed)
{
    int length = bit_length(duration);
    int bucket = length < MOST_BUCKETS ? length : MOST_BUCKETS - 1;
    counts[CALLS]++;
    counts[ERRORS] += has_failed;
    counts[TOTAL] += duration;
    counts[LONGEST] = duration > counts[LONGEST] ? duration : counts[LONGEST];
    counts[OWN] += own > 0 ? own : 0;
    counts[BUCKETS + bucket]++;
}

/* `def get_strand()`: return the strand of this thread. */
static PyObject *
get_strand(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    module_state *state = PyModule_GetState(module);
    PyObject *variables = PyThreadState_GetDict();
    if (variables == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *strand = dict_item(variables, state->names.strand);
    if (strand == NULL && !PyErr_Occurred()) {
        const int64_t zero = 0;
        PyObject *memory = PyByteArray_FromStringAndSize((char *)&zero, sizeof(zero));
        PyObject *bytes = memory == NULL ? NULL : PyMemoryView_FromObject(memory);
        Py_XDECREF(memory);
        strand = bytes == NULL ? NULL : PyObject_CallMethod(bytes, "cast", "s", "q");
        Py_XDECREF(bytes);
        if (strand != NULL
            && PyDict_SetItem(variables, state->names.strand, strand) < 0) {
            Py_CLEAR(strand);
        }
    }
    return strand;
}

/* Return whether the current greenlet is the main one of its thread; -1 with an error.
 */
static int
is_main_greenlet(module_state *state)
{
    PyObject *greenlet = PyObject_CallNoArgs(state->owned.get_greenlet);
    PyObject *parent =
        greenlet == NULL ? NULL : PyObject_GetAttr(greenlet, state->names.parent);
    Py_XDECREF(greenlet);
    Py_XDECREF(parent);
    return parent == NULL ? -1 : parent == Py_None;
}

/* Return the strand of the current task, greenlet or thread, a new reference; NULL with
 * an error. */
static PyObject *
find_strand(module_state *state)
{
    int is_of_thread = state->owned.find_strand == NULL;
    if (state->owned.get_greenlet != NULL) {
        is_of_thread = is_main_greenlet(state);
        if (is_of_thread < 0) {
            return NULL;
        }
    }
    return is_of_thread ? get_strand(state->module, NULL)
                        : PyObject_CallNoArgs(state->owned.find_strand);
}

/* Call the subscribers for a receiver that has returned `response`, or raised an error
 * if that is NULL. Takes the reference, and returns it again, or NULL with the
 * receiver's error or an error that interrupts a subscriber. */
static PyObject *
report(module_state *state, PyObject *const *arguments, PyObject *receiver,
       PyObject *response, int64_t start, int64_t duration, int64_t own)
{
    PyObject *error = response == NULL ? take_raised_exception() : Py_NewRef(Py_None);
    PyObject *reported = PyObject_CallFunction(
        state->owned.report, "OOOOLLL", arguments[0], arguments[1], receiver, error,
        (long long)start, (long long)duration, (long long)(own > 0 ? own : 0));
    if (reported == NULL) {
        Py_CLEAR(response);
    }
    else if (response == NULL) {
        raise_exception(Py_NewRef(error));
    }
    Py_XDECREF(reported);
    Py_DECREF(error);
    return response;
}

/* Call a receiver, and count and time the call. */
static PyObject *
call_watched(module_state *state, PyObject *receiver, PyObject *const *arguments,
             size_t flagged_count, PyObject *names, stopwatch *timer)
{
    /* An earlier receiver may have turned monitoring off. */
    if (state->owned.find_counts == NULL) {
        timer->now = 0;
        return call_vector(receiver, arguments, flagged_count, names);
    }
    PyObject *counts = find_counts(state, arguments[0], receiver, timer);
    if (counts == NULL) {
        return NULL;
    }
    int64_t outer = *timer->inside;
    *timer->inside = 0;
    int64_t start = timer->now == 0 ? read_clock() : timer->now;
    PyObject *response = call_vector(receiver, arguments, flagged_count, names);
    timer->now = read_clock();
    int64_t duration = timer->now - start;
    int64_t own = duration - *timer->inside;
    *timer->inside = outer + duration;
    count_call(get_numbers(counts), duration, own, response == NULL);
    Py_DECREF(counts);
    if (duration < state->limit || state->owned.report == NULL) {
        return response;
    }
    timer->now = 0;
    return report(state, arguments, receiver, response, start, duration, own);
}

static inline void
set_or_clear(PyObject **place, PyObject *object)
{
    Py_XSETREF(*place, object == Py_None ? NULL : Py_NewRef(object));
}

/* `def watch(find_counts, find_strand, get_greenlet, limit, report, is_silent)`: count
 * sends and time receivers, or stop that if the first argument is None. */
static PyObject *
watch(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    module_state *state = PyModule_GetState(module);
    int64_t limit = count == 6 ? PyLong_AsLongLong(args[3]) : -1;
    if (limit < 0) {
        PyErr_SetString(PyExc_TypeError, "watch() takes six arguments");
        return NULL;
    }
    state->limit = limit;
    set_or_clear(&state->owned.report, args[4]);
    set_or_clear(&state->owned.is_silent, args[5]);
    set_or_clear(&state->owned.find_strand, args[1]);
    set_or_clear(&state->owned.get_greenlet, args[2]);
    set_or_clear(&state->owned.find_counts, args[0]);
    for (int i = 0; state->owned.find_counts == NULL && i < ROWS; i++) {
        Py_CLEAR(state->owned.rows[i]);
    }
    Py_RETURN_NONE;
}

#endif
