/* Whether a signal is one that the fast path may handle: the rest is for Python. */

#ifndef ALTDISPATCH_GUARD_H
#define ALTDISPATCH_GUARD_H

#include "state.h"

/* Return whether an object is in a list, by identity; nothing is in NULL. */
static int
is_one_of(PyObject *list, PyObject *object)
{
    if (list == NULL) {
        return 0;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        if (PyList_GET_ITEM(list, i) == object) {
            return 1;
        }
    }
    return 0;
}

/* Look whether the instances of `type` have their attributes in their __dict__, and
 * nowhere else, and whether the methods that the fast path leaves out are ours. */
static int
look_at_type(module_state *state, PyTypeObject *type)
{
    owned_names *names = &state->names;
    return is_one_of(state->owned.own_live_receivers,
                     type_attribute(type, names->live_receivers))
           && is_one_of(state->owned.own_clear_dead_receivers,
                        type_attribute(type, names->clear_dead_receivers))
           && type->tp_getattro == PyObject_GenericGetAttr
           && type_attribute(type, names->receivers) == NULL
           && type_attribute(type, names->lock) == NULL
           && type_attribute(type, names->use_caching) == NULL
           && type_attribute(type, names->sender_receivers_cache) == NULL
           && type_attribute(type, names->dead_receivers) == NULL;
}

/* Return the same, remembered until the class, or a base of it, is changed. */
static inline int
is_plain_type(module_state *state, PyTypeObject *type)
{
    unsigned int version = type_version(type);
    if (version != 0 && state->plain_types[version % PLAIN_TYPES] == version) {
        return 1;
    }
    if (!look_at_type(state, type)) {
        return 0;
    }
    /* Looking gives a version to a class that had none; 0 stands for none. */
    version = type_version(type);
    state->plain_types[version % PLAIN_TYPES] = version;
    return 1;
}

/* Return whether the hash of `sender` and what it equals are not its own business: to
 * look it up can't be noticed, however often it is done. */
static inline int
hashes_unnoticed(PyObject *sender)
{
    PyTypeObject *type = Py_TYPE(sender);
    return (type->tp_hash == PyBaseObject_Type.tp_hash
            && type->tp_richcompare == PyBaseObject_Type.tp_richcompare)
           || sender == Py_None || PyUnicode_CheckExact(sender);
}

#endif
