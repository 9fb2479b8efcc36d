/* The hot paths of altdispatch/dispatcher.py, compiled.
 *
 * Each compiled method does what the Python function of the same name does, in the same
 * order, for the usual signals, senders and receivers. In every other case it calls
 * that function before it has changed anything. Both work on the same objects, those of
 * receivers.py. */

#include "_headers/call.h"
#include "_headers/compat.h"
#include "_headers/guard.h"
#include "_headers/method.h"
#include "_headers/monitoring.h"
#include "_headers/receivers.h"
#include "_headers/stack.h"
#include "_headers/state.h"
#include "_headers/together.h"

/* Return whether a method's function still has the code that it was compiled for.
 * Assigning __code__ replaces the method. */
static inline int
has_code(PyObject *self, PyObject *code)
{
    PyObject *function = method_function(self);
    return function != NULL && PyFunction_GET_CODE(function) == code;
}

/* Return the sender argument of has_listeners(), or its default, borrowed; NULL,
 * without an error, if Python has to check the arguments. */
static inline PyObject *
get_sender_argument(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (count == 2) {
        return args[1];
    }
    PyObject *defaults = PyFunction_GET_DEFAULTS(method_function(self));
    if (count != 1 || defaults == NULL || PyTuple_GET_SIZE(defaults) != 1) {
        return NULL;
    }
    return PyTuple_GET_ITEM(defaults, 0);
}

/* Call a patched `_live_receivers`, in the way that Django calls it. */
static inline PyObject *
call_replacement(module_state *state, PyObject *signal, PyObject *sender)
{
    PyObject *arguments[] = {signal, sender};
    return PyObject_VectorcallMethod(state->names.live_receivers, arguments,
                                     2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
}

/* Return whether a patched `_live_receivers` has returned two lists, as Django's own
 * function does. If so, `lists` holds new references to them. Python unpacks anything
 * else. */
static inline int
get_lists(PyObject *found, PyObject **lists)
{
    if (!PyTuple_CheckExact(found) || PyTuple_GET_SIZE(found) != 2
        || !PyList_CheckExact(PyTuple_GET_ITEM(found, 0))
        || !PyList_CheckExact(PyTuple_GET_ITEM(found, 1))) {
        return 0;
    }
    lists[0] = Py_NewRef(PyTuple_GET_ITEM(found, 0));
    lists[1] = Py_NewRef(PyTuple_GET_ITEM(found, 1));
    return 1;
}

/* has_listeners() for a patched `_live_receivers`. */
static PyObject *
has_listeners_replaced(module_state *state, PyObject *signal, PyObject *sender)
{
    if (enter_level() < 0) {
        return NULL;
    }
    /* The patch may run any code, which may release the module. */
    PyObject *module = Py_NewRef(state->module);
    PyObject *found = call_replacement(state, signal, sender);
    PyObject *lists[2];
    PyObject *answer = NULL;
    if (found != NULL && get_lists(found, lists)) {
        answer = PyBool_FromLong(PyList_GET_SIZE(lists[0]) != 0
                                 || PyList_GET_SIZE(lists[1]) != 0);
        Py_DECREF(lists[0]);
        Py_DECREF(lists[1]);
    }
    else if (found != NULL) {
        answer = PyObject_CallOneArg(state->owned.is_any_found, found);
    }
    Py_XDECREF(found);
    Py_DECREF(module);
    Py_LeaveRecursiveCall();
    return answer;
}

/* `def has_listeners(self, sender=None)` */
static PyObject *
has_listeners(PyObject *self, PyObject *const *args, size_t flagged_count,
              PyObject *names)
{
    module_state *state = the_state;
    if (state != NULL && names == NULL && has_code(self, state->owned.has_listeners)) {
        PyObject *sender =
            get_sender_argument(self, args, PyVectorcall_NARGS(flagged_count));
        living_receivers living = {.purpose = HAS_LISTENERS};
        lookup_result result =
            sender == NULL ? UNKNOWN : find_living(state, args[0], sender, &living);
        if (result == CALL_METHOD) {
            return has_listeners_replaced(state, args[0], sender);
        }
        if (result != UNKNOWN) {
            return result == FAILED ? NULL : PyBool_FromLong(result == FOUND);
        }
    }
    return call_python(self, args, flagged_count, names);
}

/* Call, in Python, the receivers that a patched `_live_receivers` returned. Return the
 * responses, or NULL with an error. */
static PyObject *
call_found(module_state *state, PyObject *const *args, PyObject *names, PyObject *found,
           int robust)
{
    PyObject *named = get_named(args, names);
    PyObject *responses = NULL;
    if (named != NULL) {
        responses = PyObject_CallFunctionObjArgs(state->owned.call_found, args[0],
                                                 args[1], named, found,
                                                 robust ? Py_True : Py_False, NULL);
        Py_DECREF(named);
    }
    return responses;
}

/* Call the asynchronous receivers that a patched `_live_receivers` returned, and append
 * their responses to those of the synchronous ones. Return -1 with an error. */
static int
add_asynchronous(module_state *state, PyObject *const *args, PyObject *names,
                 PyObject *receivers, PyObject *responses, int robust)
{
    PyObject *found = Py_BuildValue("[]O", receivers);
    PyObject *more =
        found == NULL ? NULL : call_found(state, args, names, found, robust);
    Py_ssize_t end = PyList_GET_SIZE(responses);
    int failed = more == NULL ? -1 : PyList_SetSlice(responses, end, end, more);
    Py_XDECREF(found);
    Py_XDECREF(more);
    return failed;
}

/* Send to the receivers that a patched `_live_receivers` returns. Return the responses,
 * or NULL with an error. */
static PyObject *
dispatch_replaced(module_state *state, PyObject *const *args, size_t flagged_count,
                  PyObject *names, int robust)
{
    PyObject *found = call_replacement(state, args[0], args[1]);
    size_t offset_flag = flagged_count & PY_VECTORCALL_ARGUMENTS_OFFSET;
    PyObject *lists[2];
    PyObject *responses = NULL;
    if (found != NULL && !get_lists(found, lists)) {
        if (state->owned.find_counts == NULL || count_send(state, args[0], 1) >= 0) {
            responses = call_found(state, args, names, found, robust);
        }
        Py_DECREF(found);
    }
    else if (found != NULL) {
        Py_DECREF(found);
        int is_heard = PyList_GET_SIZE(lists[0]) != 0 || PyList_GET_SIZE(lists[1]) != 0;
        responses = state->owned.find_counts == NULL
                        ? call_all(state, lists[0], args, offset_flag, names, robust)
                        : call_all_watched(state, lists[0], args, offset_flag, names,
                                           robust, is_heard);
        /* Tested only now, as a synchronous receiver may have edited the list. */
        if (responses != NULL && PyList_GET_SIZE(lists[1]) != 0
            && add_asynchronous(state, args, names, lists[1], responses, robust) < 0) {
            Py_CLEAR(responses);
        }
        Py_DECREF(lists[1]);
    }
    return responses;
}

/* Return the responses to a send. On error, return NULL with an exception set. To leave
 * the send to Python, return NULL without one; nothing has been changed yet. */
static inline PyObject *
dispatch(module_state *state, PyObject *const *args, size_t flagged_count,
         PyObject *names, int robust)
{
    living_receivers living = {.purpose = SEND};
    /* The receivers get the same array of arguments; the sender is the second. */
    lookup_result result = find_living(state, args[0], args[1], &living);
    if (result == NOBODY) {
        if (state->owned.find_counts != NULL && count_send(state, args[0], 0) < 0) {
            return NULL;
        }
        return PyList_New(0);
    }
    if (result == CALL_METHOD && enter_level() == 0) {
        living.lists[0] = dispatch_replaced(state, args, flagged_count, names, robust);
        Py_LeaveRecursiveCall();
    }
    if (result == FOUND && enter_level() < 0) {
        clear_living(&living);
    }
    else if (result == FOUND) {
        size_t offset_flag = flagged_count & PY_VECTORCALL_ARGUMENTS_OFFSET;
        living.lists[0] =
            state->owned.find_counts == NULL
                ? call_all(state, living.lists[0], args, offset_flag, names, robust)
                : call_all_watched(state, living.lists[0], args, offset_flag, names,
                                   robust, 1);
        Py_LeaveRecursiveCall();
    }
    return living.lists[0];
}

static inline PyObject *
send_or_call_python(PyObject *self, PyObject *const *args, size_t flagged_count,
                    PyObject *names, int robust)
{
    module_state *state = the_state;
    if (state != NULL
        && has_code(self, robust ? state->owned.send_robust : state->owned.send)) {
        PyObject *outgoing =
            get_outgoing_names(state, PyVectorcall_NARGS(flagged_count), names);
        PyObject *responses = NULL;
        if (outgoing != NULL && args[0] != state->owned.needs_frame) {
            /* A receiver may run any code, which may release the module. */
            PyObject *module = Py_NewRef(state->module);
            responses = dispatch(state, args, flagged_count, outgoing, robust);
            Py_DECREF(module);
        }
        Py_XDECREF(outgoing);
        if (responses != NULL || PyErr_Occurred()) {
            return responses;
        }
    }
    return call_python(self, args, flagged_count, names);
}

/* `def send(self, sender, **named)` */
static PyObject *
send(PyObject *self, PyObject *const *args, size_t flagged_count, PyObject *names)
{
    return send_or_call_python(self, args, flagged_count, names, 0);
}

/* `def send_robust(self, sender, **named)` */
static PyObject *
send_robust(PyObject *self, PyObject *const *args, size_t flagged_count,
            PyObject *names)
{
    return send_or_call_python(self, args, flagged_count, names, 1);
}

/* Return a tuple of both lists, or NULL with an error. Steals the references to both
 * lists. */
static inline PyObject *
get_pair_of_lists(living_receivers *living)
{
    PyObject *pair = PyTuple_New(2);
    for (int i = 0; pair != NULL && i < 2; i++) {
        PyObject *list = living->lists[i] == NULL ? PyList_New(0) : living->lists[i];
        living->lists[i] = NULL;
        PyTuple_SET_ITEM(pair, i, list);
        if (list == NULL) {
            Py_CLEAR(pair);
        }
    }
    clear_living(living);
    return pair;
}

/* `def _live_receivers(self, sender)`: ours, or Django's own since accelerate(). */
static PyObject *
live_receivers(PyObject *self, PyObject *const *args, size_t flagged_count,
               PyObject *names)
{
    module_state *state = the_state;
    if (state != NULL && names == NULL && PyVectorcall_NARGS(flagged_count) == 2
        && (has_code(self, state->owned.live_receivers)
            || has_code(self, state->owned.accelerated))) {
        living_receivers living = {.purpose = LIVE_RECEIVERS};
        lookup_result result = find_living(state, args[0], args[1], &living);
        if (result == FAILED) {
            return NULL;
        }
        if (result != UNKNOWN) {
            return get_pair_of_lists(&living);
        }
    }
    return call_python(self, args, flagged_count, names);
}

/* `def compile(function)`: return a compiled method for a function that has the code of
 * one of the methods above. Return any other function unchanged. */
static PyObject *
speedups_compile(PyObject *module, PyObject *function)
{
    module_state *state = PyModule_GetState(module);
    const struct {
        PyObject *code;
        vectorcallfunc vectorcall;
    } compiled[] = {
        {state->owned.has_listeners, has_listeners},
        {state->owned.send, send},
        {state->owned.send_robust, send_robust},
        {state->owned.live_receivers, live_receivers},
    };
    if (!PyFunction_Check(function)) {
        return PyErr_Format(PyExc_TypeError, "%R is not a function", function);
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(compiled); i++) {
        if (compiled[i].code == PyFunction_GET_CODE(function)) {
            return new_method(state, function, compiled[i].vectorcall);
        }
    }
    return Py_NewRef(function);
}

#if PY_VERSION_HEX >= 0x030C0000

/* `def accelerate(function, is_on)`: make calls of Django's own `_live_receivers`, to
 * which a program may have kept a reference, run the compiled code, or stop that. The
 * function keeps its identity and its attributes. */
static PyObject *
speedups_accelerate(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    module_state *state = PyModule_GetState(module);
    if (count != 2 || !PyFunction_Check(args[0]) || !PyBool_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "accelerate() takes a function and a bool");
        return NULL;
    }
    PyFunctionObject *function = (PyFunctionObject *)args[0];
    if (args[1] == Py_True) {
        Py_XSETREF(state->owned.accelerated, Py_NewRef(PyFunction_GET_CODE(function)));
        PyFunction_SetVectorcall(function, live_receivers);
    }
    else {
        PyFunction_SetVectorcall(function, function_vectorcall);
    }
    Py_RETURN_NONE;
}

#endif

/* Import a module, and follow a path of attribute names from it. Return a new
 * reference, or NULL with an error. */
static PyObject *
find_object(const char *module, const char *const *path)
{
    PyObject *object = PyImport_ImportModule(module);
    for (; object != NULL && *path != NULL; path++) {
        Py_SETREF(object, PyObject_GetAttrString(object, *path));
    }
    return object;
}

#define LOAD_NAME(field, text)                                                         \
    if ((state->names.field = PyUnicode_InternFromString(text)) == NULL) {             \
        return -1;                                                                     \
    }
#define LOAD_OBJECT(field, module, ...)                                                \
    if ((state->owned.field =                                                          \
             find_object(module, (const char *const[]){__VA_ARGS__, NULL}))            \
        == NULL) {                                                                     \
        return -1;                                                                     \
    }

static int
load(module_state *state)
{
    NAMES(LOAD_NAME)
    OBJECTS(LOAD_OBJECT)
    state->names.signal_and_sender =
        PyTuple_Pack(2, state->names.signal, state->names.sender);
    state->names.firstiter =
        Py_BuildValue("(N)", PyUnicode_InternFromString("firstiter"));
    state->owned.object_class =
        Py_XNewRef(type_attribute(&PyBaseObject_Type, state->names.class_));
    state->owned.object_getattribute =
        Py_XNewRef(type_attribute(&PyBaseObject_Type, state->names.getattribute));
    PyObject *weak_method = state->owned.weak_method_type;
    state->weak_method_function = find_slot(weak_method, "_func_ref");
    state->weak_method_kind = find_slot(weak_method, "_meth_type");
    state->entry_length = PyLong_AsSsize_t(state->owned.entry_length);
    return PyErr_Occurred() ? -1 : 0;
}

static int
speedups_exec(PyObject *module)
{
    if (the_state != NULL) {
        PyErr_SetString(PyExc_ImportError,
                        "another interpreter in this process already uses the "
                        "extension, or it was imported before. Under uWSGI or "
                        "mod_wsgi, run each application in its own process");
        return -1;
    }
    module_state *state = PyModule_GetState(module);
    state->owned.run_type = PyType_FromModuleAndSpec(module, &run_spec, NULL);
    if (state->owned.run_type == NULL) {
        return -1;
    }
#if PY_VERSION_HEX < 0x030C0000
    state->owned.method_type = PyType_FromModuleAndSpec(module, &method_spec, NULL);
    if (state->owned.method_type == NULL) {
        return -1;
    }
#endif
    if (load(state) < 0) {
        return -1;
    }
    state->module = module;
    the_state = state;
    return 0;
}

static int
speedups_traverse(PyObject *module, visitproc visit, void *arg)
{
    module_state *state = PyModule_GetState(module);
    PyObject **owned = (PyObject **)&state->owned;
    for (size_t i = 0; i < sizeof(owned_objects) / sizeof(PyObject *); i++) {
        Py_VISIT(owned[i]);
    }
    return 0;
}

static int
speedups_clear(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    PyObject **owned = (PyObject **)&state->owned;
    for (size_t i = 0; i < sizeof(owned_objects) / sizeof(PyObject *); i++) {
        Py_CLEAR(owned[i]);
    }
    return 0;
}

static void
speedups_free(void *module)
{
    module_state *state = PyModule_GetState(module);
    if (the_state == state) {
        the_state = NULL;
    }
    PyObject **names = (PyObject **)&state->names;
    for (size_t i = 0; i < sizeof(owned_names) / sizeof(PyObject *); i++) {
        Py_CLEAR(names[i]);
    }
    for (size_t i = 0; i < CALL_SITES; i++) {
        Py_CLEAR(state->call_sites[i].incoming);
        Py_CLEAR(state->call_sites[i].outgoing);
    }
    (void)speedups_clear(module);
}

static PyMethodDef speedups_methods[] = {
    {"compile", speedups_compile, METH_O,
     PyDoc_STR("compile($module, function, /)\n--\n\n"
               "Return a compiled method for the function, or the function itself.")},
#if PY_VERSION_HEX >= 0x030C0000
    {"accelerate", (PyCFunction)(void (*)(void))speedups_accelerate, METH_FASTCALL,
     PyDoc_STR("accelerate($module, function, is_on, /)\n--\n\n"
               "Make Django's own _live_receivers() run compiled code, or stop that.")},
#endif
    {"make_coroutines", (PyCFunction)(void (*)(void))speedups_make_coroutines,
     METH_FASTCALL,
     PyDoc_STR("make_coroutines($module, signal, sender, named, receivers, /)\n--\n\n"
               "Do what the function of that name in altdispatch.dispatcher does.")},
    {"start", (PyCFunction)(void (*)(void))speedups_start, METH_FASTCALL,
     PyDoc_STR("start($module, awaitables, results, fatal, loop, context, "
               "add_to_group, /)\n--\n\n"
               "Do what the function of that name in altdispatch.together does.")},
    {"get_strand", get_strand, METH_NOARGS,
     PyDoc_STR("get_strand($module, /)\n--\n\n"
               "Return the strand of this thread: see altdispatch.watching.")},
    {"watch", (PyCFunction)(void (*)(void))watch, METH_FASTCALL,
     PyDoc_STR("watch($module, find_counts, find_strand, get_greenlet, limit, report, "
               "is_silent, /)\n--\n\nCount sends and time receivers, or stop that.")},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot speedups_slots[] = {
    {Py_mod_exec, speedups_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef speedups_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "altdispatch._speedups",
    .m_doc = "The hot paths of altdispatch.dispatcher, compiled.",
    .m_size = sizeof(module_state),
    .m_methods = speedups_methods,
    .m_slots = speedups_slots,
    .m_traverse = speedups_traverse,
    .m_clear = speedups_clear,
    .m_free = speedups_free,
};

PyMODINIT_FUNC
PyInit__speedups(void)
{
    return PyModuleDef_Init(&speedups_module);
}
