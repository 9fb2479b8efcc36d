/* What the module keeps: names, and what it has to know of other modules. */

#ifndef ALTDISPATCH_STATE_H
#define ALTDISPATCH_STATE_H

#include "compat.h"

/* A call site's keyword names, and those of the calls that come of it. */
typedef struct {
    PyObject *incoming; /* owned; a tuple of interned strings, or NULL: not in use */
    PyObject *outgoing; /* owned; NULL: such a call is for Python */
    Py_ssize_t count;   /* of positional arguments */
} call_site;

#define CALL_SITES 64 /* powers of two */
#define KNOWN_TYPES 16

/* What is known of a class of signals: see find_kind(). */
typedef enum {
    NOT_PLAIN,
    OWN_LOOKUP,
    REPLACED_LOOKUP,
} type_kind;

typedef struct {
    unsigned int version; /* 0: not in use */
    type_kind kind;
} known_type;

/* Interned strings, and the tuple ("signal", "sender"). No cycle goes through them:
 * they are there for as long as the module's memory, also while garbage is collected.
 * The first five are a signal's attributes, in the order of `signal_attributes`. */
typedef struct {
    PyObject *receivers;
    PyObject *lock;
    PyObject *use_caching;
    PyObject *sender_receivers_cache;
    PyObject *dead_receivers;
    PyObject *acquire;
    PyObject *class_;
    PyObject *clear_dead_receivers;
    PyObject *context;
    PyObject *data;
    PyObject *eager_start;
    PyObject *func;
    PyObject *live_receivers;
    PyObject *locked;
    PyObject *loop;
    PyObject *make_id;
    PyObject *ref;
    PyObject *release;
    PyObject *sender;
    PyObject *signal;
    PyObject *signal_and_sender;
} owned_names;

/* What else the state owns. NULL, all of it, once the module was cleared as garbage:
 * the functions have other code than these then, and everything is for Python. */
typedef struct {
#if PY_VERSION_HEX < 0x030C0000
    PyObject *method_type; /* of this module */
#endif
    PyObject *has_listeners; /* the code of the functions in altdispatch.dispatcher */
    PyObject *send;
    PyObject *send_robust;
    PyObject *live_receivers;
    PyObject *receivers_type;   /* altdispatch.receivers.Receivers */
    PyObject *scan;             /* altdispatch.receivers.scan */
    PyObject *cache_type;       /* weakref.WeakKeyDictionary */
    PyObject *weak_method_type; /* weakref.WeakMethod */
    PyObject *weakref;          /* what the module has */
    PyObject *lock_type;        /* that of threading.Lock(), which may be patched */
    PyObject *object_class;     /* object.__dict__["__class__"] */
    PyObject *stock;            /* what the module of Django's dispatcher has */
    PyObject *make_id;          /* these are those of altdispatch.dispatcher */
    PyObject *no_receivers;
    PyObject *log_failure;
    PyObject *call_found;
    PyObject *is_any_found;
    PyObject *own_live_receivers;
    PyObject *own_clear_dead_receivers;
    PyObject *needs_frame; /* the signal that needs a Python frame */
    PyObject *task_type;   /* these are those of altdispatch.together */
    PyObject *task_done;
    PyObject *task_result;
    PyObject *as_coroutine;
    PyObject *make_coroutines; /* that of altdispatch.dispatcher */
    PyObject *lent_to; /* the code of Django's `_live_receivers`: see speedups_lend() */
} owned_objects;

typedef struct {
    owned_names names;
    owned_objects owned;
    PyObject *module; /* borrowed: the state is its */

    /* How many items an entry has: see altdispatch/receivers.py. */
    Py_ssize_t entry_length;

    /* Where slots are in a WeakMethod, or -1. */
    Py_ssize_t weak_method_function;
    Py_ssize_t weak_method_kind;

    /* Where in their dicts names were the last time: see get_at(). */
    Py_ssize_t data_place;
    Py_ssize_t make_id_place;
    Py_ssize_t ref_place;

    /* The classes that find_kind() has checked and found plain. */
    known_type known_types[KNOWN_TYPES];
    call_site call_sites[CALL_SITES];
} module_state;

/* The state of the module, or NULL if there is none any more. A function has no room
 * for it, so there can be only one in a process; speedups_exec() sees to that. */
static module_state *the_state = NULL;

#endif
