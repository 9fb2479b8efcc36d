/* The hot paths of altdispatch/dispatcher.py, compiled.
 *
 * A method here does what the function of its name does there, in the same order, for
 * the signals, senders and receivers that nearly all are. Everything else, it leaves to
 * that function, before it has done anything that could be noticed. So whatever is not
 * found here is found there; both work on the same objects, those of receivers.py.
 */

#include "_headers/call.h"
#include "_headers/compat.h"
#include "_headers/guard.h"
#include "_headers/index.h"
#include "_headers/method.h"
#include "_headers/routes.h"
#include "_headers/state.h"
#include "_headers/together.h"

/* Look at a signal and its sender. Return whether it's plain all that there is to them,
 * with the signal's attributes. */
static inline int
look_at_signal(module_state *state, PyObject *signal, PyObject *sender,
               attributes *attributes)
{
    return is_plain_type(state, Py_TYPE(signal)) && hashes_unnoticed(sender)
           && read_attributes(state, signal, attributes)
           && (Py_IS_TYPE(attributes->receivers,
                          (PyTypeObject *)state->owned.receivers_type)
               || PyList_CheckExact(attributes->receivers));
}

/* Find the receivers of `sender`. After FOUND and NOBODY, dismiss() is due, also for
 * the asynchronous ones; if these are not asked for, it's UNKNOWN who there is. */
static answer
find_crowd(module_state *state, attributes *signal, PyObject *sender, crowd *crowd,
           struct crowd *asynchronous)
{
    PyObject *routes = NULL;
    gather_nobody(crowd);
    if (asynchronous != NULL) {
        gather_nobody(asynchronous);
    }
    /* Making a reference may collect garbage, which may run any code. */
    PyObject *module = Py_NewRef(state->module);
    PyObject *receivers = Py_NewRef(signal->receivers);
    PyObject *lock = Py_NewRef(signal->lock);
    answer answer = recall(state, signal, sender, &routes);
    Py_DECREF(lock);
    Py_DECREF(receivers);
    if (answer == FOUND) {
        answer = resolve(state, routes, crowd, asynchronous);
        Py_DECREF(routes);
    }
    Py_DECREF(module);
    return answer;
}

/* `def has_listeners(self, sender=None)` */
static PyObject *
has_listeners(PyObject *self, PyObject *const *args, size_t flagged_count,
              PyObject *names)
{
    module_state *state = the_state;
    Py_ssize_t count = PyVectorcall_NARGS(flagged_count);
    attributes attributes;
    crowd crowd, asynchronous;
    if (state != NULL && names == NULL && (count == 1 || count == 2)) {
        PyObject *sender = count == 2 ? args[1] : Py_None;
        if (look_at_signal(state, args[0], sender, &attributes)) {
            answer answer =
                find_crowd(state, &attributes, sender, &crowd, &asynchronous);
            if (answer == FAILED) {
                return NULL;
            }
            if (answer != UNKNOWN) {
                dismiss(&crowd);
                dismiss(&asynchronous);
                return PyBool_FromLong(answer == FOUND);
            }
        }
    }
    return call_python(self, args, flagged_count, names);
}

/* Append `(receiver, response)` and let go of the response. */
static inline int
append_response(PyObject *responses, PyObject *receiver, PyObject *response)
{
    PyObject *pair = PyTuple_New(2);
    if (pair == NULL) {
        Py_DECREF(response);
        return -1;
    }
    PyTuple_SET_ITEM(pair, 0, Py_NewRef(receiver));
    PyTuple_SET_ITEM(pair, 1, response);
    Py_ssize_t count = PyList_GET_SIZE(responses);
    if (count < ((PyListObject *)responses)->allocated) {
        Py_SET_SIZE(responses, count + 1);
        PyList_SET_ITEM(responses, count, pair);
        return 0;
    }
    int failed = PyList_Append(responses, pair);
    Py_DECREF(pair);
    return failed;
}

/* Return a new empty list with room for so many items. */
static inline PyObject *
new_responses(Py_ssize_t count)
{
    PyObject *responses = PyList_New(count);
    if (responses != NULL) {
        Py_SET_SIZE(responses, 0);
    }
    return responses;
}

/* Have the error that a receiver raised logged, and return it; NULL with an error if
 * it isn't one that is caught, or if logging fails. */
static PyObject *
log_failure(module_state *state, PyObject *signal, PyObject *receiver)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return NULL;
    }
    PyObject *error = take_raised_exception();
    /* As in an `except` clause: sys.exc_info() tells of it meanwhile. What is handled
     * already may be so further out: a generator that's running isn't to keep that. */
    PyObject *handled = PyErr_GetHandledException();
    PyErr_SetHandledException(NULL);
    PyObject *outer = PyErr_GetHandledException();
    if (outer == handled) {
        Py_CLEAR(handled);
    }
    Py_XDECREF(outer);
    PyErr_SetHandledException(error);
    PyObject *logged = PyObject_CallMethodObjArgs(
        signal, state->names.log_robust_failure, receiver, error, NULL);
    PyErr_SetHandledException(handled);
    Py_XDECREF(handled);
    if (logged == NULL) {
        Py_DECREF(error);
        return NULL;
    }
    Py_DECREF(logged);
    return error;
}

/* Call the receivers, and return a list of what they answered. */
static PyObject *
call_crowd(module_state *state, call *call, crowd *crowd, int robust)
{
    PyObject *responses = new_responses(crowd->count);
    if (responses == NULL || set_out_arguments(call) < 0) {
        Py_XDECREF(responses);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < crowd->count; i++) {
        PyObject *response = call_receiver(call, crowd->items[i]);
        if (response == NULL && robust) {
            response = log_failure(state, call->signal, crowd->items[i]);
        }
        if (response == NULL
            || append_response(responses, crowd->items[i], response) < 0) {
            Py_DECREF(responses);
            return NULL;
        }
    }
    return responses;
}

/* Return the responses to a send that is plain in all regards. NULL without an error:
 * it isn't, and nothing has been done. */
static inline PyObject *
dispatch(module_state *state, call *call, int robust)
{
    attributes attributes;
    if (!look_at_signal(state, call->signal, call->sender, &attributes)
        || call->signal == state->owned.needs_frame) {
        return NULL;
    }
    if (PyList_GET_SIZE(attributes.receivers) == 0) {
        return PyList_New(0);
    }
    crowd crowd;
    PyObject *responses = NULL;
    /* A receiver may do anything, even let go of the module. */
    PyObject *module = Py_NewRef(state->module);
    answer answer = find_crowd(state, &attributes, call->sender, &crowd, NULL);
    if (answer == NOBODY) {
        responses = PyList_New(0);
        dismiss(&crowd);
    }
    else if (answer == FOUND) {
        if (Py_EnterRecursiveCall(" while sending a signal") == 0) {
            responses = call_crowd(state, call, &crowd, robust);
            Py_LeaveRecursiveCall();
        }
        dismiss(&crowd);
    }
    Py_DECREF(module);
    return responses;
}

static inline PyObject *
send_or_call_python(PyObject *self, PyObject *const *args, size_t flagged_count,
                    PyObject *names, int robust)
{
    module_state *state = the_state;
    call call;
    int begun = 0;
    if (state != NULL) {
        begun =
            begin_call(state, &call, args, PyVectorcall_NARGS(flagged_count), names);
    }
    if (begun < 0) {
        return NULL;
    }
    if (begun) {
        PyObject *responses = dispatch(state, &call, robust);
        end_call(&call);
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

/* Return a list of the receivers, which are dismissed; NULL with an error. */
static PyObject *
list_crowd(crowd *crowd)
{
    PyObject *living = PyList_New(crowd->count);
    for (Py_ssize_t i = 0; living != NULL && i < crowd->count; i++) {
        PyList_SET_ITEM(living, i, Py_NewRef(crowd->items[i]));
    }
    dismiss(crowd);
    return living;
}

/* `def _live_receivers(self, sender)` */
static PyObject *
live_receivers(PyObject *self, PyObject *const *args, size_t flagged_count,
               PyObject *names)
{
    module_state *state = the_state;
    attributes attributes;
    if (state != NULL && names == NULL && PyVectorcall_NARGS(flagged_count) == 2
        && look_at_signal(state, args[0], args[1], &attributes)) {
        crowd crowd, asynchronous;
        answer answer = find_crowd(state, &attributes, args[1], &crowd, &asynchronous);
        if (answer == FAILED) {
            return NULL;
        }
        if (answer != UNKNOWN) {
            PyObject *sync_receivers = list_crowd(&crowd);
            PyObject *async_receivers = list_crowd(&asynchronous);
            /* Either may be NULL, with an error. */
            return Py_BuildValue("NN", sync_receivers, async_receivers);
        }
    }
    return call_python(self, args, flagged_count, names);
}

/* `def compile(function)`: return what to use in the place of a function of one of the
 * names below, which was made for this; another function is returned as it is. */
static PyObject *
speedups_compile(PyObject *module, PyObject *function)
{
    static const struct {
        const char *name;
        vectorcallfunc vectorcall;
    } compiled[] = {
        {"has_listeners", has_listeners},
        {"send", send},
        {"send_robust", send_robust},
        {"_live_receivers", live_receivers},
    };
    if (!PyFunction_Check(function)) {
        return PyErr_Format(PyExc_TypeError, "%R is no function", function);
    }
    PyObject *name = ((PyFunctionObject *)function)->func_name;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(compiled); i++) {
        if (PyUnicode_CompareWithASCIIString(name, compiled[i].name) == 0) {
            return new_method(PyModule_GetState(module), function,
                              compiled[i].vectorcall);
        }
    }
    return Py_NewRef(function);
}

/* Find where in the objects of a class one of its slots is. */
static int
find_slot(PyObject *type, const char *name, Py_ssize_t *offset)
{
    PyObject *slot = PyObject_GetAttrString(type, name);
    if (slot == NULL) {
        return -1;
    }
    if (!Py_IS_TYPE(slot, &PyMemberDescr_Type)) {
        PyErr_Format(PyExc_ImportError, "%R has no slot %s", type, name);
        Py_DECREF(slot);
        return -1;
    }
    *offset = ((PyMemberDescrObject *)slot)->d_member->offset;
    Py_DECREF(slot);
    return 0;
}

/* Find the C function of a method without arguments that a class in C has. */
static int
find_method(PyObject *type, const char *name, PyCFunction *function)
{
    PyObject *method = PyObject_GetAttrString(type, name);
    if (method == NULL) {
        return -1;
    }
    if (!Py_IS_TYPE(method, &PyMethodDescr_Type)
        || ((PyMethodDescrObject *)method)->d_method->ml_flags != METH_NOARGS) {
        PyErr_Format(PyExc_ImportError, "%R is not as expected", method);
        Py_DECREF(method);
        return -1;
    }
    *function = ((PyMethodDescrObject *)method)->d_method->ml_meth;
    Py_DECREF(method);
    return 0;
}

static int
load_names(owned_names *names)
{
    const struct {
        PyObject **name;
        const char *text;
    } texts[] = {
        {&names->clear_dead_receivers, "_clear_dead_receivers"},
        {&names->acquire, "acquire"},
        {&names->close, "close"},
        {&names->context, "context"},
        {&names->data, "data"},
        {&names->dead_receivers, "_dead_receivers"},
        {&names->eager_start, "eager_start"},
        {&names->find_index, "find_index"},
        {&names->func, "__func__"},
        {&names->live_receivers, "_live_receivers"},
        {&names->lock, "lock"},
        {&names->log_robust_failure, "_log_robust_failure"},
        {&names->loop, "loop"},
        {&names->make_id, "_make_id"},
        {&names->receivers, "receivers"},
        {&names->ref, "ref"},
        {&names->release, "release"},
        {&names->remove, "_remove"},
        {&names->sender, "sender"},
        {&names->sender_receivers_cache, "sender_receivers_cache"},
        {&names->signal, "signal"},
        {&names->throw_, "throw"},
        {&names->use_caching, "use_caching"},
        {&names->value, "value"},
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(texts); i++) {
        *texts[i].name = PyUnicode_InternFromString(texts[i].text);
        if (*texts[i].name == NULL) {
            return -1;
        }
    }
    names->signal_and_sender = PyTuple_Pack(2, names->signal, names->sender);
    names->firstiter = Py_BuildValue("(N)", PyUnicode_InternFromString("firstiter"));
    return names->signal_and_sender == NULL || names->firstiter == NULL ? -1 : 0;
}

static int
load_objects(owned_objects *owned)
{
    const struct {
        PyObject **object;
        const char *module;
        const char *name;
    } objects[] = {
        {&owned->receivers_type, "altdispatch.receivers", "Receivers"},
        {&owned->routes_type, "altdispatch.receivers", "Routes"},
        {&owned->none_id, "altdispatch.receivers", "NONE_ID"},
        {&owned->make_id, "altdispatch.dispatcher", "_make_id"},
        {&owned->no_receivers, "altdispatch.dispatcher", "NO_RECEIVERS"},
        {&owned->stock, "django.dispatch.dispatcher", "__dict__"},
        {&owned->weakref, "weakref", "__dict__"},
        {&owned->own_live_receivers, "altdispatch.dispatcher", "OWN_LIVE_RECEIVERS"},
        {&owned->own_clear_dead_receivers, "altdispatch.dispatcher",
         "OWN_CLEAR_DEAD_RECEIVERS"},
        {&owned->needs_frame, "django.core.signals", "setting_changed"},
        {&owned->cache_type, "weakref", "WeakKeyDictionary"},
        {&owned->weak_method_type, "weakref", "WeakMethod"},
        {&owned->lock_type, "_thread", "LockType"},
        {&owned->task_type, "altdispatch.together", "Task"},
        {&owned->make_coroutines, "altdispatch.dispatcher", "make_coroutines"},
        {&owned->run_name, "altdispatch.together", "RUN"},
        {&owned->get_asyncgen_hooks, "sys", "get_asyncgen_hooks"},
        {&owned->set_asyncgen_hooks, "sys", "set_asyncgen_hooks"},
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(objects); i++) {
        PyObject *module = PyImport_ImportModule(objects[i].module);
        if (module == NULL) {
            return -1;
        }
        *objects[i].object = PyObject_GetAttrString(module, objects[i].name);
        Py_DECREF(module);
        if (*objects[i].object == NULL) {
            return -1;
        }
    }
    owned->task_cancelled = PyObject_GetAttrString(owned->task_type, "cancelled");
    return owned->task_cancelled == NULL ? -1 : 0;
}

static int
load_layout(module_state *state)
{
    const struct {
        PyObject *type;
        const char *name;
        Py_ssize_t *offset;
    } slots[] = {
        {state->owned.receivers_type, "memory", &state->memory},
        {state->owned.weak_method_type, "_func_ref", &state->weak_method_function},
        {state->owned.weak_method_type, "_meth_type", &state->weak_method_kind},
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(slots); i++) {
        if (find_slot(slots[i].type, slots[i].name, slots[i].offset) < 0) {
            return -1;
        }
    }
    PyObject *releases = PyImport_ImportModule("altdispatch.releases");
    PyObject *length =
        releases == NULL ? NULL : PyObject_GetAttrString(releases, "ENTRY_LENGTH");
    Py_XDECREF(releases);
    if (length == NULL) {
        return -1;
    }
    /* A route is an entry without its lookup key. */
    state->route_length = PyLong_AsSsize_t(length) - 1;
    Py_DECREF(length);
    return PyErr_Occurred() ? -1 : 0;
}

static int
speedups_exec(PyObject *module)
{
    if (the_state != NULL) {
        PyErr_SetString(PyExc_ImportError,
                        "another interpreter of this process has it, or an earlier "
                        "import");
        return -1;
    }
    module_state *state = PyModule_GetState(module);
    state->owned.index_type = PyType_FromModuleAndSpec(module, &index_spec, NULL);
    if (state->owned.index_type == NULL
        || PyModule_AddType(module, (PyTypeObject *)state->owned.index_type) < 0) {
        return -1;
    }
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
    if (load_names(&state->names) < 0 || load_objects(&state->owned) < 0) {
        return -1;
    }
    if (load_layout(state) < 0
        || find_method(state->owned.lock_type, "locked", &state->locked) < 0) {
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
               "Return what to use in the place of the function.")},
    {"make_coroutines", (PyCFunction)(void (*)(void))speedups_make_coroutines,
     METH_FASTCALL,
     PyDoc_STR("make_coroutines($module, signal, sender, named, receivers, /)\n--\n\n"
               "Do what the function of that name in altdispatch.dispatcher does.")},
    {"start", (PyCFunction)(void (*)(void))speedups_start, METH_FASTCALL,
     PyDoc_STR("start($module, awaitables, results, fatal, loop, context, join, /)\n--\n\n"
               "Do what the function of that name in altdispatch.together does.")},
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
