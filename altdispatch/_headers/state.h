/* What the module keeps: names, and what it has to know of other modules. */

#ifndef ALTDISPATCH_STATE_H
#define ALTDISPATCH_STATE_H

#include "compat.h"

/* A call site's keyword names, and those of the calls that come of it. */
typedef struct {
    PyObject *incoming; /* owned; a tuple of interned strings, or NULL: not in use */
    PyObject *outgoing; /* owned; NULL: such a call is for Python */
    Py_ssize_t sender;  /* where `sender` is among the incoming, or -1 */
} call_site;

#define CALL_SITES 64 /* powers of two */
#define CACHE_KEYS 256
#define LAST_ROUTES 32
#define PLAIN_TYPES 16

/* Interned strings, and the tuple ("signal", "sender"). No cycle goes through them:
 * they are there for as long as the module's memory, also while garbage is collected.
 */
typedef struct {
    PyObject *clear_dead_receivers;
    PyObject *acquire;
    PyObject *close;
    PyObject *context;
    PyObject *data;
    PyObject *dead_receivers;
    PyObject *eager_start;
    PyObject *find_index;
    PyObject *func;
    PyObject *live_receivers;
    PyObject *lock;
    PyObject *log_robust_failure;
    PyObject *loop;
    PyObject *make_id;
    PyObject *receivers;
    PyObject *ref;
    PyObject *release;
    PyObject *remove;
    PyObject *sender;
    PyObject *sender_receivers_cache;
    PyObject *signal;
    PyObject *throw_;
    PyObject *use_caching;
    PyObject *value;
    PyObject *firstiter; /* ("firstiter",) */
    PyObject *signal_and_sender;
} owned_names;

/* What else the state owns. NULL, all of it, once the module was cleared as garbage:
 * the fast path finds nothing to be as it expects it then. */
typedef struct {
#if PY_VERSION_HEX < 0x030C0000
    PyObject *method_type; /* of this module */
#endif
    PyObject *receivers_type; /* those of altdispatch.receivers */
    PyObject *routes_type;
    PyObject *index_type;       /* of this module */
    PyObject *cache_type;       /* weakref.WeakKeyDictionary */
    PyObject *weak_method_type; /* weakref.WeakMethod */
    PyObject *weakref;          /* what the module has */
    PyObject *lock_type;        /* that of threading.Lock() */
    PyObject *stock;            /* what the module of Django's dispatcher has */
    PyObject *make_id;          /* these are those of altdispatch.dispatcher */
    PyObject *no_receivers;
    PyObject *none_id;
    PyObject *own_live_receivers;
    PyObject *own_clear_dead_receivers;
    PyObject *needs_frame; /* the signal that needs a Python frame */
    PyObject *run_type;    /* of this module */
    PyObject *task_type; /* these are those of altdispatch.together */
    PyObject *task_cancelled;
    PyObject *run_name;
    PyObject *make_coroutines; /* that of altdispatch.dispatcher */
    PyObject *get_asyncgen_hooks;
    PyObject *set_asyncgen_hooks;
} owned_objects;

typedef struct {
    owned_names names;
    owned_objects owned;
    PyObject *module; /* borrowed: the state is its */

    /* `locked()` of lock_type. */
    PyCFunction locked;

    /* How many items a route has: see altdispatch/receivers.py. */
    Py_ssize_t route_length;

    /* Where in their objects slots are. */
    Py_ssize_t memory; /* of receivers and of routes */
    Py_ssize_t weak_method_function;
    Py_ssize_t weak_method_kind;

    /* Where in their dicts names were the last time: see get_at(). */
    Py_ssize_t data_place;
    Py_ssize_t make_id_place;
    Py_ssize_t ref_place;

    /* The versions of classes that is_plain_type() has looked at. */
    unsigned int plain_types[PLAIN_TYPES];
    call_site call_sites[CALL_SITES];
} module_state;

/* The state of the module, or NULL if there is none any more. A function has no room
 * for it, so there can be only one in a process; speedups_exec() sees to that. */
static module_state *the_state = NULL;

/* Return what is in a slot of an object, borrowed; NULL, without an error, if nothing
 * is. */
static inline PyObject *
get_slot(PyObject *object, Py_ssize_t offset)
{
    return *(PyObject **)((char *)object + offset);
}

#endif
