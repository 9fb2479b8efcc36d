/* How asynchronous receivers are started: see altdispatch/together.py. */

#ifndef ALTDISPATCH_TOGETHER_H
#define ALTDISPATCH_TOGETHER_H

#include "call.h"
#include "state.h"

#define MOST_STARTS 10

/* How many calls of start() this thread is in. */
static THREAD_LOCAL int starts = 0;

/* After an error: return whether it's one that ends the loop, and the task has it. It's
 * unset then. */
static int
has_kept_error(module_state *state, PyObject *task)
{
    if (!PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)
        && !PyErr_ExceptionMatches(PyExc_SystemExit)) {
        return 0;
    }
    PyObject *error = take_raised_exception();
    PyObject *done = PyObject_CallOneArg(state->owned.task_done, task);
    if (done == Py_True) {
        Py_DECREF(done);
        Py_DECREF(error);
        return 1;
    }
    Py_XDECREF(done);
    PyErr_Clear();
    raise_exception(error);
    return 0;
}

/* Put a coroutine for the awaitable into `*arguments`, a tuple of one that is used
 * again unless somebody else has it; NULL to begin with. Return -1 with an error. */
static inline int
set_argument(module_state *state, PyObject **arguments, PyObject *awaitable)
{
    if (*arguments == NULL || Py_REFCNT(*arguments) != 1) {
        Py_XSETREF(*arguments, PyTuple_New(1));
        if (*arguments == NULL) {
            return -1;
        }
    }
    PyObject *coroutine =
        PyCoro_CheckExact(awaitable)
            ? Py_NewRef(awaitable)
            : PyObject_CallOneArg(state->owned.as_coroutine, awaitable);
    if (coroutine == NULL) {
        return -1;
    }
    PyObject *last = PyTuple_GET_ITEM(*arguments, 0);
    PyTuple_SET_ITEM(*arguments, 0, coroutine);
    Py_XDECREF(last);
    return 0;
}

/* Return a new task, which has made its first step if the options say so; NULL with an
 * error. */
static inline PyObject *
make_task(module_state *state, PyObject *arguments, PyObject *options)
{
    PyTypeObject *type = (PyTypeObject *)state->owned.task_type;
    PyObject *task = type->tp_new(type, arguments, NULL);
    if (task != NULL && type->tp_init(task, arguments, options) < 0
        && !has_kept_error(state, task)) {
        Py_CLEAR(task);
    }
    return task;
}

/* Do what start() does with the options for a task; NULL with an error. */
static PyObject *
start_all(module_state *state, PyObject *coroutines, PyObject *results,
          PyObject *options)
{
    PyObject *arguments = NULL;
    PyObject *task = Py_None;
    while (PyList_GET_SIZE(results) < PyList_GET_SIZE(coroutines)) {
        Py_ssize_t place = PyList_GET_SIZE(results);
        PyObject *awaitable = Py_NewRef(PyList_GET_ITEM(coroutines, place));
        task = NULL;
        if (set_argument(state, &arguments, awaitable) == 0
            && PyList_Append(results, Py_None) == 0) {
            task = make_task(state, arguments, options);
        }
        Py_DECREF(awaitable);
        if (task == NULL) {
            break;
        }
        PyObject *result = PyObject_CallOneArg(state->owned.task_result, task);
        if (result == NULL) {
            /* It isn't done, or it's the task's error, and stays there: it has seen no
             * frame of ours. */
            PyErr_Clear();
            break;
        }
        Py_DECREF(task);
        task = Py_None;
        if (PyList_SetItem(results, place, result) < 0) {
            task = NULL;
            break;
        }
    }
    Py_XDECREF(arguments);
    return task == Py_None ? Py_NewRef(task) : task;
}

/* Return whether the module has what it works with; with an error if it was cleared as
 * garbage. */
static inline int
is_there(module_state *state)
{
    if (state->owned.task_type == NULL) {
        PyErr_SetString(PyExc_ReferenceError, "the module has been collected");
        return 0;
    }
    return 1;
}

/* Call each receiver, and return a list of the coroutines; NULL with an error. */
static PyObject *
call_each(call *call, PyObject *receivers)
{
    PyObject *coroutines = PyList_New(0);
    if (coroutines == NULL || set_out_arguments(call) < 0) {
        Py_XDECREF(coroutines);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(receivers); i++) {
        PyObject *receiver = Py_NewRef(PyList_GET_ITEM(receivers, i));
        PyObject *coroutine = call_receiver(call, receiver);
        Py_DECREF(receiver);
        if (coroutine == NULL || PyList_Append(coroutines, coroutine) < 0) {
            Py_XDECREF(coroutine);
            Py_DECREF(coroutines);
            return NULL;
        }
        Py_DECREF(coroutine);
    }
    return coroutines;
}

/* `def make_coroutines(signal, sender, named, receivers)` */
static PyObject *
speedups_make_coroutines(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    module_state *state = PyModule_GetState(module);
    if (count != 4 || !PyDict_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError,
                        "make_coroutines() takes two objects, a dict and receivers");
        return NULL;
    }
    if (!is_there(state)) {
        return NULL;
    }
    PyObject *values;
    call call = {.signal = args[0], .sender = args[1]};
    /* A patched look-up may have found them in something that isn't a list. */
    int begun = PyList_CheckExact(args[3])
                    ? begin_call_of_dict(state, &call, args[2], &values)
                    : 0;
    if (begun < 0) {
        return NULL;
    }
    if (begun == 0) {
        return PyObject_Vectorcall(state->owned.make_coroutines, args, count, NULL);
    }
    PyObject *coroutines = call_each(&call, args[3]);
    end_call(&call);
    Py_DECREF(values);
    return coroutines;
}

/* `def start(coroutines, results, loop, context, here)` */
static PyObject *
speedups_start(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    module_state *state = PyModule_GetState(module);
    if (count != 5 || !PyList_Check(args[0]) || !PyList_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "start() takes two lists and three objects");
        return NULL;
    }
    int here = PyObject_IsTrue(args[4]);
    if (here < 0 || !is_there(state)) {
        return NULL;
    }
    owned_names *names = &state->names;
    PyObject *eager_start = here && starts < MOST_STARTS ? Py_True : Py_False;
    PyObject *options = PyDict_New();
    PyObject *task = NULL;
    if (options != NULL && PyDict_SetItem(options, names->loop, args[2]) == 0
        && PyDict_SetItem(options, names->context, args[3]) == 0
        && PyDict_SetItem(options, names->eager_start, eager_start) == 0) {
        starts++;
        task = start_all(state, args[0], args[1], options);
        starts--;
    }
    Py_XDECREF(options);
    return task;
}

#endif
