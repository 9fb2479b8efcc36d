/* Run the first steps of asynchronous receivers: see altdispatch/together.py. */

#ifndef ALTDISPATCH_TOGETHER_H
#define ALTDISPATCH_TOGETHER_H

#include "state.h"

#define MOST_NESTED 10

/* The sends of this thread that are running first steps: see _FirstSteps. */
typedef struct {
    int nested;
    size_t generators;
} first_steps;

static THREAD_LOCAL first_steps here = {0, 0};

/* The coroutine of `async def run(awaitable, results, position)`. */
typedef struct {
    PyObject_HEAD
    PyObject *coroutine;
    PyObject *results;
    Py_ssize_t position;
    int has_returned;
} run_object;

/* Return whether the module has its objects; 0 with an error after a garbage collection
 * has cleared it. */
static inline int
is_there(module_state *state)
{
    if (state == NULL || state->owned.task_type == NULL) {
        PyErr_SetString(PyExc_ReferenceError, "the module has been collected");
        return 0;
    }
    return 1;
}

/* Store the result of the coroutine if it has returned. */
static PySendResult
end_step(run_object *self, PySendResult outcome, PyObject **result)
{
    if (outcome == PYGEN_RETURN) {
        self->has_returned = 1;
        if (PyList_SetItem(self->results, self->position, *result) < 0) {
            *result = NULL;
            return PYGEN_ERROR;
        }
        *result = Py_NewRef(Py_None);
    }
    return outcome;
}

static PySendResult
run_am_send(PyObject *object, PyObject *value, PyObject **result)
{
    run_object *self = (run_object *)object;
    return end_step(self, PyIter_Send(self->coroutine, value, result), result);
}

/* Turn the outcome of am_send into that of a method. */
static PyObject *
return_step(PySendResult outcome, PyObject *result)
{
    if (outcome != PYGEN_RETURN) {
        return result;
    }
    Py_DECREF(result);
    PyErr_SetNone(PyExc_StopIteration);
    return NULL;
}

static PyObject *
run_send(PyObject *self, PyObject *value)
{
    PyObject *result;
    PySendResult outcome = run_am_send(self, value, &result);
    return return_step(outcome, result);
}

static PyObject *
run_throw(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    run_object *self = (run_object *)object;
    if (count < 1) {
        PyErr_SetString(PyExc_TypeError, "throw() takes an error");
        return NULL;
    }
    PyObject *result =
        PyObject_CallMethodOneArg(self->coroutine, the_state->names.throw_, args[0]);
    if (result != NULL || !PyErr_ExceptionMatches(PyExc_StopIteration)) {
        return result;
    }
    PyObject *end = take_raised_exception();
    result = PyObject_GetAttr(end, the_state->names.value);
    Py_DECREF(end);
    if (result == NULL) {
        return NULL;
    }
    PySendResult outcome = end_step(self, PYGEN_RETURN, &result);
    return return_step(outcome, result);
}

static PyObject *
run_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyObject_CallMethodNoArgs(((run_object *)self)->coroutine,
                                     the_state->names.close);
}

static PyObject *
run_await(PyObject *Py_UNUSED(self))
{
    PyErr_SetString(PyExc_RuntimeError, "coroutine is being awaited already");
    return NULL;
}

/* Look up other attributes on the receiver's coroutine, as debuggers of tasks do. */
static PyObject *
run_getattro(PyObject *self, PyObject *name)
{
    PyObject *value = PyObject_GenericGetAttr(self, name);
    if (value != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return value;
    }
    PyErr_Clear();
    return PyObject_GetAttr(((run_object *)self)->coroutine, name);
}

static PyObject *
run_name(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    return PyUnicode_FromString("run");
}

static PyObject *
run_qualname(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    return Py_NewRef(the_state->owned.run_name);
}

static int
run_traverse(PyObject *object, visitproc visit, void *arg)
{
    run_object *self = (run_object *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->coroutine);
    Py_VISIT(self->results);
    return 0;
}

static void
run_dealloc(PyObject *object)
{
    run_object *self = (run_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    Py_CLEAR(self->coroutine);
    Py_CLEAR(self->results);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static PyGetSetDef run_getset[] = {
    {"__name__", run_name, NULL, NULL, NULL},
    {"__qualname__", run_qualname, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef run_methods[] = {
    {"send", run_send, METH_O, NULL},
    {"throw", (PyCFunction)(void (*)(void))run_throw, METH_FASTCALL, NULL},
    {"close", run_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot run_slots[] = {
    {Py_tp_doc,
     (void *)PyDoc_STR("The coroutine of altdispatch.together.run(), compiled.")},
    {Py_tp_dealloc, run_dealloc},
    {Py_tp_traverse, run_traverse},
    {Py_tp_getattro, run_getattro},
    {Py_tp_getset, run_getset},
    {Py_tp_methods, run_methods},
    {Py_am_send, run_am_send},
    {Py_am_await, run_await},
    {0, NULL},
};

static PyType_Spec run_spec = {
    .name = "altdispatch._speedups.run_early",
    .basicsize = sizeof(run_object),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = run_slots,
};

/* Set `*names` and `*values` to new tuples of the arguments of asynchronous receivers.
 * Return 1; 0, without an error, if Python has to call the receivers; -1 with an error.
 */
static int
get_arguments(module_state *state, PyObject *const *args, PyObject **names,
              PyObject **values)
{
    PyObject *named = args[2];
    int is_wrong = PyDict_Contains(named, state->names.signal);
    if (is_wrong != 0) {
        return is_wrong < 0 ? -1 : 0;
    }
    Py_ssize_t count = PyDict_GET_SIZE(named);
    *names = PyTuple_New(2 + count);
    *values = PyTuple_New(2 + count);
    /* A garbage collection may have run code that changed the dict. */
    if (*names == NULL || *values == NULL || PyDict_GET_SIZE(named) != count) {
        Py_CLEAR(*names);
        Py_CLEAR(*values);
        return PyErr_Occurred() ? -1 : 0;
    }
    PyTuple_SET_ITEM(*names, 0, Py_NewRef(state->names.signal));
    PyTuple_SET_ITEM(*names, 1, Py_NewRef(state->names.sender));
    PyTuple_SET_ITEM(*values, 0, Py_NewRef(args[0]));
    PyTuple_SET_ITEM(*values, 1, Py_NewRef(args[1]));
    PyObject *name, *value;
    Py_ssize_t place = 0;
    for (Py_ssize_t i = 2; PyDict_Next(named, &place, &name, &value); i++) {
        PyTuple_SET_ITEM(*names, i, Py_NewRef(name));
        PyTuple_SET_ITEM(*values, i, Py_NewRef(value));
    }
    return 1;
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
    PyObject *names = NULL, *values = NULL, *receivers = args[3];
    /* A patched look-up may have returned something else than a list. */
    int found = 0;
    if (PyList_CheckExact(receivers) && state->owned.find_counts == NULL) {
        found = get_arguments(state, args, &names, &values);
    }
    if (found <= 0) {
        return found < 0 ? NULL
                         : PyObject_Vectorcall(state->owned.make_coroutines, args,
                                               (size_t)count, NULL);
    }
    PyObject *coroutines = PyList_New(0);
    for (Py_ssize_t i = 0; coroutines != NULL && i < PyList_GET_SIZE(receivers); i++) {
        PyObject *receiver = Py_NewRef(PyList_GET_ITEM(receivers, i));
        PyObject *coroutine =
            call_vector(receiver, &PyTuple_GET_ITEM(values, 0), 0, names);
        Py_DECREF(receiver);
        if (coroutine == NULL || PyList_Append(coroutines, coroutine) < 0) {
            Py_CLEAR(coroutines);
        }
        Py_XDECREF(coroutine);
    }
    Py_DECREF(names);
    Py_DECREF(values);
    return coroutines;
}

/* Set `*arguments` to a tuple of a coroutine of run(); it is NULL at first. If nothing
 * else refers to the last tuple and its coroutine any more, both are used again. Return
 * the coroutine, borrowed, or NULL with an error. */
static inline run_object *
set_run(module_state *state, PyObject **arguments, PyObject *coroutine,
        PyObject *results, Py_ssize_t position)
{
    run_object *self;
    if (*arguments != NULL && Py_REFCNT(*arguments) == 1
        && Py_REFCNT(PyTuple_GET_ITEM(*arguments, 0)) == 1) {
        self = (run_object *)PyTuple_GET_ITEM(*arguments, 0);
        self->position = position;
        self->has_returned = 0;
        Py_SETREF(self->coroutine, Py_NewRef(coroutine));
        return self;
    }
    self = PyObject_GC_New(run_object, (PyTypeObject *)state->owned.run_type);
    if (self == NULL) {
        return NULL;
    }
    self->coroutine = Py_NewRef(coroutine);
    self->results = Py_NewRef(results);
    self->position = position;
    self->has_returned = 0;
    PyObject_GC_Track(self);
    Py_XSETREF(*arguments, PyTuple_Pack(1, self));
    Py_DECREF(self);
    return *arguments == NULL ? NULL : self;
}

/* Return a new task that has run its first step; NULL with an error. An error that ends
 * the loop is appended to `fatal`. */
static inline PyObject *
new_task(module_state *state, PyObject *arguments, PyObject *options, PyObject *fatal)
{
    PyTypeObject *type = (PyTypeObject *)state->owned.task_type;
    PyObject *task = type->tp_new(type, arguments, NULL);
    if (task == NULL || type->tp_init(task, arguments, options) == 0) {
        return task;
    }
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)
        || PyErr_ExceptionMatches(PyExc_SystemExit)) {
        PyObject *error = take_raised_exception();
        int status = PyList_Append(fatal, error);
        Py_DECREF(error);
        if (status == 0) {
            return task;
        }
    }
    Py_DECREF(task);
    return NULL;
}

/* Return whether the sender has to wait for a task; -1 with an error. */
static int
is_waited_for(module_state *state, PyObject *task, run_object *coroutine)
{
    if (coroutine->has_returned) {
        return 0;
    }
    PyObject *cancelled = PyObject_CallOneArg(state->owned.task_cancelled, task);
    Py_XDECREF(cancelled);
    return cancelled == NULL ? -1 : cancelled != Py_True;
}

/* Create the next task. Return it if the sender has to wait for it, None if not, NULL
 * with an error. */
static PyObject *
start_next(module_state *state, PyObject *awaitables, PyObject *results,
           PyObject *fatal, PyObject *options, PyObject **arguments)
{
    size_t generators = here.generators;
    Py_ssize_t position = PyList_GET_SIZE(results);
    run_object *running = set_run(
        state, arguments, PyList_GET_ITEM(awaitables, position), results, position);
    if (running == NULL || PyList_Append(results, Py_None) < 0) {
        return NULL;
    }
    PyObject *task = new_task(state, *arguments, options, fatal);
    if (task != NULL && here.generators == generators) {
        int is_waited = is_waited_for(state, task, running);
        if (is_waited <= 0) {
            Py_SETREF(task, is_waited < 0 ? NULL : Py_NewRef(Py_None));
        }
    }
    return task;
}

/* Do what start() does, with the options of asyncio.Task(). Return NULL with an error.
 */
static PyObject *
start_all(module_state *state, PyObject *const *args, PyObject *options)
{
    PyObject *awaitables = args[0], *results = args[1], *fatal = args[2];
    PyObject *arguments = NULL;
    PyObject *task = Py_NewRef(Py_None);
    while (task == Py_None && PyList_GET_SIZE(results) < PyList_GET_SIZE(awaitables)
           && PyList_GET_SIZE(fatal) == 0) {
        Py_SETREF(task,
                  start_next(state, awaitables, results, fatal, options, &arguments));
        if (task != NULL && task != Py_None && args[5] != Py_None) {
            Py_SETREF(task, PyObject_CallOneArg(args[5], task));
        }
    }
    Py_XDECREF(arguments);
    return task;
}

static int
are_coroutines(PyObject *awaitables)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(awaitables); i++) {
        if (!PyCoro_CheckExact(PyList_GET_ITEM(awaitables, i))) {
            return 0;
        }
    }
    return 1;
}

/* `partial(_count_generator, hook)`. */
static PyObject *
count_generator(PyObject *hook, PyObject *generator)
{
    here.generators++;
    return hook == Py_None ? Py_NewRef(Py_None) : PyObject_CallOneArg(hook, generator);
}

static PyMethodDef count_generator_method = {"_count_generator", count_generator,
                                             METH_O, NULL};

/* `def _count_generators()`. Return -1 with an error. */
static int
count_generators(module_state *state)
{
    PyObject *hooks = PyObject_CallNoArgs(state->owned.get_asyncgen_hooks);
    if (hooks == NULL) {
        return -1;
    }
    int status = 0;
    PyObject *hook = PyTuple_GET_ITEM(hooks, 0);
    if (!PyCFunction_CheckExact(hook)
        || PyCFunction_GET_FUNCTION(hook) != count_generator) {
        PyObject *ours = PyCFunction_New(&count_generator_method, hook);
        PyObject *none = ours == NULL
                             ? NULL
                             : PyObject_Vectorcall(state->owned.set_asyncgen_hooks,
                                                   &ours, 0, state->names.firstiter);
        status = none == NULL ? -1 : 0;
        Py_XDECREF(none);
        Py_XDECREF(ours);
    }
    Py_DECREF(hooks);
    return status;
}

/* `def start(awaitables, results, fatal, loop, context, add_to_group)` */
static PyObject *
speedups_start(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    module_state *state = PyModule_GetState(module);
    if (count != 6 || !PyList_Check(args[0]) || !PyList_Check(args[1])
        || !PyList_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError, "start() takes three lists and three objects");
        return NULL;
    }
    if (!is_there(state)) {
        return NULL;
    }
    if (here.nested == MOST_NESTED || !are_coroutines(args[0])) {
        Py_RETURN_NONE;
    }
    PyObject *options = PyDict_New();
    PyObject *task = NULL;
    if (options != NULL && PyDict_SetItem(options, state->names.loop, args[3]) == 0
        && PyDict_SetItem(options, state->names.context, args[4]) == 0
        && PyDict_SetItem(options, state->names.eager_start, Py_True) == 0
        && count_generators(state) == 0) {
        here.nested++;
        task = start_all(state, args, options);
        here.nested--;
    }
    Py_XDECREF(options);
    return task;
}

#endif
