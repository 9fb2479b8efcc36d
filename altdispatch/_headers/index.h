/* The index of a list of receivers: `Index` in receivers.py, compiled.
 *
 * Its methods do what those do, with the same names and in the same order. What Python
 * has in dicts is here in two tables of nodes: by lookup key, and by sender key, with
 * the nodes of one sender in a ring. */

#ifndef ALTDISPATCH_INDEX_H
#define ALTDISPATCH_INDEX_H

#include "state.h"

#include <stdint.h>

/* An entry that was added. */
typedef struct node {
    PyObject *entry; /* owned */
    Py_ssize_t serial;
    size_t hashes[2];  /* in the table by sender, and in the one by key */
    struct node *next; /* of the same sender, in the order of adding; then the first */
    struct node *previous;
} node;

/* A sender, only to compare with, and the routes that it got last; owned, or NULL. */
typedef struct {
    PyObject *sender;
    PyObject *routes;
} last_routes;

/* A hash table with open addressing: NULL where nothing is. */
typedef struct {
    node **slots;
    size_t size; /* a power of two, or 0 */
    size_t used;
} table;

typedef struct {
    PyObject_HEAD
    Py_ssize_t length;
    char complete;
    char plain;
    table by_key;
    table by_sender;   /* the first of each ring */
    PyObject *routes;  /* owned; a dict */
    last_routes *last; /* owned, or NULL: see find_last_routes() */
    Py_ssize_t first;
    Py_ssize_t next;
    Py_ssize_t *gone;
    Py_ssize_t gone_count;
    Py_ssize_t gone_room;
    char worn;
    PyObject **cache_keys; /* owned, as are its items: see find_cache_key() */
} index_object;

/* What a node is found by; all borrowed. */
typedef struct {
    PyObject *receiver_key; /* NULL in the table by sender */
    PyObject *sender_key;
    size_t hash;
} probe;

/* How deep a tuple may have tuples in it: far below what hashing it can bear. */
#define MOST_LEVELS 5

/* Return whether a value is equal only to values of the same hash, and to itself. */
static inline int
is_value(PyObject *key)
{
    PyTypeObject *type = Py_TYPE(key);
    return type == &PyLong_Type || type == &PyUnicode_Type || type == &PyBytes_Type
           || type == &PyBool_Type || key == Py_None;
}

/* Return whether a dict finds `key` where a scan with `==` would. */
static int
hashes_as_it_compares(PyObject *key, int levels)
{
    if (PyTuple_CheckExact(key)) {
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(key); i++) {
            PyObject *part = PyTuple_GET_ITEM(key, i);
            if (!is_value(part)
                && (levels == 0 || !hashes_as_it_compares(part, levels - 1))) {
                return 0;
            }
        }
        return 1;
    }
    return is_value(key)
           || (Py_TYPE(key)->tp_richcompare == PyBaseObject_Type.tp_richcompare
               && Py_TYPE(key)->tp_hash == PyBaseObject_Type.tp_hash);
}

/* Ids are multiples of 16 and near to each other: spread them over all bits. */
static inline size_t
spread(size_t hash)
{
    uint64_t wide = (uint64_t)hash * UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(wide ^ (wide >> 32));
}

/* Make a probe; receiver_key is NULL for the table by sender. The keys are such that
 * neither hashing nor comparing them can fail, or run code. */
static inline probe
make_probe(PyObject *receiver_key, PyObject *sender_key)
{
    probe probe = {receiver_key, sender_key, 0};
    probe.hash = spread((size_t)PyObject_Hash(sender_key));
    if (receiver_key != NULL) {
        probe.hash = spread(probe.hash ^ (size_t)PyObject_Hash(receiver_key));
    }
    return probe;
}

static inline PyObject *
node_key(node *node, int part)
{
    return PyTuple_GET_ITEM(PyTuple_GET_ITEM(node->entry, 0), part);
}

static inline int
same_key(PyObject *one, PyObject *other)
{
    return one == other || PyObject_RichCompareBool(one, other, Py_EQ) == 1;
}

static inline int
is_found(node *node, probe *probe)
{
    int with_receiver = probe->receiver_key != NULL;
    return node->hashes[with_receiver] == probe->hash
           && (!with_receiver || same_key(node_key(node, 0), probe->receiver_key))
           && same_key(node_key(node, 1), probe->sender_key);
}

/* Return where in the table the node is or, if it isn't in there, would be put. The
 * table has room. */
static inline node **
find_slot_of(table *table, probe *probe)
{
    size_t mask = table->size - 1;
    size_t i = probe->hash & mask;
    while (table->slots[i] != NULL && !is_found(table->slots[i], probe)) {
        i = (i + 1) & mask;
    }
    return &table->slots[i];
}

static inline node *
find_node(table *table, PyObject *receiver_key, PyObject *sender_key)
{
    if (table->size == 0) {
        return NULL;
    }
    probe probe = make_probe(receiver_key, sender_key);
    return *find_slot_of(table, &probe);
}

/* Make room for one more node. Return -1 with an error if there's no memory. */
static int
make_room(table *table_, int with_receiver)
{
    if (3 * (table_->used + 1) <= 2 * table_->size) {
        return 0;
    }
    table larger = {NULL, table_->size == 0 ? 8 : 2 * table_->size, table_->used};
    larger.slots = PyMem_New(node *, larger.size);
    if (larger.slots == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memset(larger.slots, 0, larger.size * sizeof(node *));
    for (size_t i = 0; i < table_->size; i++) {
        if (table_->slots[i] != NULL) {
            size_t j = table_->slots[i]->hashes[with_receiver];
            while (larger.slots[j & (larger.size - 1)] != NULL) {
                j++;
            }
            larger.slots[j & (larger.size - 1)] = table_->slots[i];
        }
    }
    PyMem_Free(table_->slots);
    *table_ = larger;
    return 0;
}

/* Take a node out of a table that has it. Those after it that would not be found over
 * the gap move into it. */
static void
empty_slot(table *table, node *gone, int with_receiver)
{
    size_t mask = table->size - 1;
    size_t gap = gone->hashes[with_receiver] & mask;
    while (table->slots[gap] != gone) {
        gap = (gap + 1) & mask;
    }
    table->used--;
    for (size_t i = (gap + 1) & mask; table->slots[i] != NULL; i = (i + 1) & mask) {
        size_t home = table->slots[i]->hashes[with_receiver] & mask;
        if (((i - home) & mask) >= ((i - gap) & mask)) {
            table->slots[gap] = table->slots[i];
            gap = i;
        }
    }
    table->slots[gap] = NULL;
}

static PyObject *
index_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":Index", keywords)) {
        return NULL;
    }
    index_object *self = (index_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->plain = 1;
    self->routes = PyDict_New();
    if (self->routes == NULL) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int
index_traverse(index_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->routes);
    for (size_t i = 0; self->last != NULL && i < LAST_ROUTES; i++) {
        Py_VISIT(self->last[i].routes);
    }
    for (size_t i = 0; i < self->by_key.size; i++) {
        if (self->by_key.slots[i] != NULL) {
            Py_VISIT(self->by_key.slots[i]->entry);
        }
    }
    for (size_t i = 0; self->cache_keys != NULL && i < CACHE_KEYS; i++) {
        Py_VISIT(self->cache_keys[i]);
    }
    return 0;
}

/* Forget the routes that were got last. It may run any code, when the index is as it is
 * to be. */
static inline void
forget_last_routes(index_object *self)
{
    last_routes *last = self->last;
    self->last = NULL;
    for (size_t i = 0; last != NULL && i < LAST_ROUTES; i++) {
        Py_XDECREF(last[i].routes);
    }
    PyMem_Free(last);
}

static int
index_clear(index_object *self)
{
    /* Empty before anything goes, as code may run then, and so not complete. */
    table by_key = self->by_key, by_sender = self->by_sender;
    PyObject **cache_keys = self->cache_keys;
    self->by_key = self->by_sender = (table){NULL, 0, 0};
    self->complete = 0;
    self->cache_keys = NULL;
    for (size_t i = 0; i < by_key.size; i++) {
        if (by_key.slots[i] != NULL) {
            Py_DECREF(by_key.slots[i]->entry);
            PyMem_Free(by_key.slots[i]);
        }
    }
    PyMem_Free(by_key.slots);
    PyMem_Free(by_sender.slots);
    if (cache_keys != NULL) {
        for (size_t i = 0; i < CACHE_KEYS; i++) {
            Py_XDECREF(cache_keys[i]);
        }
        PyMem_Free(cache_keys);
    }
    forget_last_routes(self);
    Py_CLEAR(self->routes);
    return 0;
}

static void
index_dealloc(index_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)index_clear(self);
    PyMem_Free(self->gone);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Return where the reference is remembered that the signal's cache may have as the key
 * of a sender; NULL, without an error, if there's no memory for it. Looking it up by
 * that very object spares making another, and comparing. */
static inline PyObject **
find_cache_key(index_object *self, PyObject *sender)
{
    if (self->cache_keys == NULL) {
        self->cache_keys = PyMem_New(PyObject *, CACHE_KEYS);
        if (self->cache_keys == NULL) {
            return NULL;
        }
        memset(self->cache_keys, 0, CACHE_KEYS * sizeof(PyObject *));
    }
    return &self->cache_keys[spread((size_t)sender) % CACHE_KEYS];
}

/* Return where the routes are remembered that `sender` may have got last; NULL, without
 * an error, if there's no memory for it. They are good for what has its id, as all
 * routes are, and until the next change. */
static inline last_routes *
find_last_routes(index_object *self, PyObject *sender)
{
    if (self->last == NULL) {
        self->last = PyMem_New(last_routes, LAST_ROUTES);
        if (self->last == NULL) {
            return NULL;
        }
        memset(self->last, 0, LAST_ROUTES * sizeof(last_routes));
    }
    return &self->last[spread((size_t)sender) % LAST_ROUTES];
}

/* Forget the routes that are remembered. Return -1 with an error if there's no memory:
 * a new dict, as in Python, is what an answer that's being worked out can't get into.
 */
static inline int
forget_routes(index_object *self)
{
    if (self->routes != NULL && PyDict_GET_SIZE(self->routes) == 0
        && Py_REFCNT(self->routes) == 1) {
        return 0;
    }
    PyObject *routes = PyDict_New();
    if (routes == NULL) {
        return -1;
    }
    Py_XSETREF(self->routes, routes);
    forget_last_routes(self);
    return 0;
}

/* Add an entry that can be held, and whose key isn't there. Return -1 with an error,
 * and the index as it was, if there's no memory. */
static int
add_node(index_object *self, PyObject *entry)
{
    if (make_room(&self->by_key, 1) < 0 || make_room(&self->by_sender, 0) < 0
        || forget_routes(self) < 0) {
        return -1;
    }
    node *added = PyMem_New(node, 1);
    if (added == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    added->entry = Py_NewRef(entry);
    added->serial = self->next++;
    self->length++;
    probe by_sender = make_probe(NULL, node_key(added, 1));
    probe by_key = make_probe(node_key(added, 0), node_key(added, 1));
    added->hashes[0] = by_sender.hash;
    added->hashes[1] = by_key.hash;
    *find_slot_of(&self->by_key, &by_key) = added;
    self->by_key.used++;
    node **ring = find_slot_of(&self->by_sender, &by_sender);
    if (*ring == NULL) {
        added->next = added->previous = added;
        *ring = added;
        self->by_sender.used++;
        self->plain = self->plain && PyLong_CheckExact(node_key(added, 1));
    }
    else {
        added->next = *ring;
        added->previous = (*ring)->previous;
        added->previous->next = (*ring)->previous = added;
    }
    return 0;
}

static inline int
is_pair(PyObject *key)
{
    return PyTuple_CheckExact(key) && PyTuple_GET_SIZE(key) == 2;
}

static inline node *
find_by_key(index_object *self, PyObject *lookup_key)
{
    return find_node(&self->by_key, PyTuple_GET_ITEM(lookup_key, 0),
                     PyTuple_GET_ITEM(lookup_key, 1));
}

static int
can_hold(index_object *self, PyObject *entry, Py_ssize_t length)
{
    if (!PyTuple_CheckExact(entry) || PyTuple_GET_SIZE(entry) != length) {
        return 0;
    }
    PyObject *key = PyTuple_GET_ITEM(entry, 0);
    return is_pair(key) && hashes_as_it_compares(key, MOST_LEVELS)
           && !find_by_key(self, key);
}

/* Return the state, or NULL with an error once the module was cleared. */
static inline module_state *
index_state(void)
{
    if (the_state == NULL || the_state->owned.routes_type == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "altdispatch._speedups has been cleared");
        return NULL;
    }
    return the_state;
}

/* `def fill(self, entries)` */
static PyObject *
index_fill(index_object *self, PyObject *entries)
{
    module_state *state = index_state();
    if (state == NULL) {
        return NULL;
    }
    if (!PyTuple_Check(entries)) {
        return PyErr_Format(PyExc_TypeError, "entries must be a tuple");
    }
    self->complete = 1;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(entries); i++) {
        PyObject *entry = PyTuple_GET_ITEM(entries, i);
        if (!can_hold(self, entry, state->route_length + 1)) {
            self->complete = 0;
            break;
        }
        if (add_node(self, entry) < 0) {
            self->complete = 0;
            return NULL;
        }
    }
    self->length = PyTuple_GET_SIZE(entries);
    Py_RETURN_NONE;
}

static inline int
covers(index_object *self, PyObject *receivers)
{
    return self->complete && self->length == PyList_GET_SIZE(receivers);
}

/* `def covers(self, receivers)` */
static PyObject *
index_covers(index_object *self, PyObject *receivers)
{
    if (!PyList_Check(receivers)) {
        return PyErr_Format(PyExc_TypeError, "receivers must be a list");
    }
    return PyBool_FromLong(covers(self, receivers));
}

/* `def add(self, entry)` */
static PyObject *
index_add(index_object *self, PyObject *entry)
{
    module_state *state = index_state();
    if (state == NULL) {
        return NULL;
    }
    if (!can_hold(self, entry, state->route_length + 1)) {
        return PyErr_Format(PyExc_ValueError, "the index can't hold %R", entry);
    }
    if (add_node(self, entry) < 0) {
        self->complete = 0; /* The list has the entry, and the index not. */
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Return whether `lookup_key` is one; if not, with an error. */
static inline int
check_lookup_key(PyObject *lookup_key)
{
    if (!is_pair(lookup_key) || !hashes_as_it_compares(lookup_key, MOST_LEVELS)) {
        PyErr_Format(PyExc_ValueError, "the index can't have %R", lookup_key);
        return 0;
    }
    return 1;
}

/* `def has(self, lookup_key)` */
static PyObject *
index_has(index_object *self, PyObject *lookup_key)
{
    if (!check_lookup_key(lookup_key)) {
        return NULL;
    }
    return PyBool_FromLong(find_by_key(self, lookup_key) != NULL);
}

/* Take a node out of both tables and its ring. */
static void
unlink_node(index_object *self, node *gone)
{
    empty_slot(&self->by_key, gone, 1);
    if (gone->next == gone) {
        empty_slot(&self->by_sender, gone, 0);
    }
    else {
        probe by_sender = make_probe(NULL, node_key(gone, 1));
        node **ring = find_slot_of(&self->by_sender, &by_sender);
        if (*ring == gone) {
            *ring = gone->next;
        }
    }
    gone->next->previous = gone->previous;
    gone->previous->next = gone->next;
}

/* Return how many of the serials that are gone are less than this one. */
static Py_ssize_t
count_gone_before(index_object *self, Py_ssize_t serial)
{
    Py_ssize_t low = 0, high = self->gone_count;
    while (low < high) {
        Py_ssize_t middle = low + (high - low) / 2;
        if (self->gone[middle] < serial) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return low;
}

/* Make room for one more serial that is gone. Return -1 with an error if there's no
 * memory. */
static int
make_room_for_gone(index_object *self)
{
    if (self->gone_count < self->gone_room) {
        return 0;
    }
    Py_ssize_t room = self->gone_room == 0 ? 8 : 2 * self->gone_room;
    Py_ssize_t *gone = PyMem_Resize(self->gone, Py_ssize_t, room);
    if (gone == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->gone = gone;
    self->gone_room = room;
    return 0;
}

/* Note that a serial is gone; return the position in the list that it had. */
static Py_ssize_t
note_gone(index_object *self, Py_ssize_t serial)
{
    if (serial == self->first && self->gone_count == 0) {
        /* In the order of connecting, as many programs disconnect. */
        self->first++;
        return 0;
    }
    Py_ssize_t before = count_gone_before(self, serial);
    memmove(self->gone + before + 1, self->gone + before,
            (size_t)(self->gone_count - before) * sizeof(Py_ssize_t));
    self->gone[before] = serial;
    self->gone_count++;
    self->worn = self->gone_count > 2 * self->length + 100;
    return serial - self->first - before;
}

/* `def take_out(self, lookup_key)` */
static PyObject *
index_take_out(index_object *self, PyObject *lookup_key)
{
    if (!check_lookup_key(lookup_key)) {
        return NULL;
    }
    node *gone = find_by_key(self, lookup_key);
    if (gone == NULL) {
        Py_RETURN_NONE;
    }
    if (make_room_for_gone(self) < 0 || forget_routes(self) < 0) {
        return NULL;
    }
    unlink_node(self, gone);
    self->length--;
    Py_ssize_t position = note_gone(self, gone->serial);
    PyObject *entry = gone->entry;
    PyMem_Free(gone);
    /* From here on, if there's no memory for the answer, the list has the entry still,
     * and by its length isn't covered any more. */
    return Py_BuildValue("nN", position, entry);
}

/* Return new routes, of nothing. */
static PyObject *
new_routes(module_state *state)
{
    PyObject *none = PyTuple_New(0);
    if (none == NULL) {
        return NULL;
    }
    PyTypeObject *type = (PyTypeObject *)state->owned.routes_type;
    PyObject *routes = PyList_Type.tp_new(type, none, NULL);
    Py_DECREF(none);
    if (routes != NULL) {
        /* There's no short cut for Python: the way here is as short. */
        *(PyObject **)((char *)routes + state->memory) = Py_NewRef(Py_None);
    }
    return routes;
}

/* Return new routes for a sender key that can be looked up. */
static PyObject *
find_routes(module_state *state, index_object *self, PyObject *sender_key)
{
    PyObject *routes = new_routes(state);
    if (routes == NULL) {
        return NULL;
    }
    node *own = find_node(&self->by_sender, NULL, sender_key);
    node *general = find_node(&self->by_sender, NULL, state->owned.none_id);
    if (own == general) {
        general = NULL;
    }
    node *first_own = own, *first_general = general;
    while (own != NULL || general != NULL) {
        int is_own = general == NULL || (own != NULL && own->serial < general->serial);
        node *next = is_own ? own : general;
        PyObject *route = PyTuple_GetSlice(next->entry, 1, state->route_length + 1);
        /* Not routes.append(): nobody has these yet. */
        if (route == NULL || PyList_Append(routes, route) < 0) {
            Py_XDECREF(route);
            Py_DECREF(routes);
            return NULL;
        }
        Py_DECREF(route);
        if (is_own) {
            own = own->next == first_own ? NULL : own->next;
        }
        else {
            general = general->next == first_general ? NULL : general->next;
        }
    }
    return routes;
}

/* `def find_routes(self, sender_key)` */
static PyObject *
index_find_routes(index_object *self, PyObject *sender_key)
{
    module_state *state = index_state();
    if (state == NULL) {
        return NULL;
    }
    if (!hashes_as_it_compares(sender_key, MOST_LEVELS)) {
        return PyErr_Format(PyExc_ValueError, "the index can't have %R", sender_key);
    }
    return find_routes(state, self, sender_key);
}

/* `def remember_routes(self, sender_key)` */
static PyObject *
index_remember_routes(index_object *self, PyObject *sender_key)
{
    module_state *state = index_state();
    if (state == NULL) {
        return NULL;
    }
    if (!hashes_as_it_compares(sender_key, MOST_LEVELS)) {
        return PyErr_Format(PyExc_ValueError, "the index can't have %R", sender_key);
    }
    if (find_node(&self->by_sender, NULL, sender_key) == NULL) {
        /* So that a sender nobody registered for leaves nothing behind. */
        sender_key = state->owned.none_id;
    }
    if (self->routes == NULL && forget_routes(self) < 0) {
        return NULL;
    }
    PyObject *routes = PyDict_GetItemWithError(self->routes, sender_key);
    if (routes != NULL) {
        return Py_NewRef(routes);
    }
    /* A change meanwhile begins a new dict: this answer can't get into it. */
    PyObject *remembered = Py_NewRef(self->routes);
    Py_INCREF(sender_key);
    routes = find_routes(state, self, sender_key);
    if (routes != NULL && PyDict_SetItem(remembered, sender_key, routes) < 0) {
        Py_CLEAR(routes);
    }
    Py_DECREF(sender_key);
    Py_DECREF(remembered);
    return routes;
}

static PyMethodDef index_methods[] = {
    {"fill", (PyCFunction)index_fill, METH_O, NULL},
    {"covers", (PyCFunction)index_covers, METH_O, NULL},
    {"add", (PyCFunction)index_add, METH_O, NULL},
    {"has", (PyCFunction)index_has, METH_O, NULL},
    {"take_out", (PyCFunction)index_take_out, METH_O, NULL},
    {"find_routes", (PyCFunction)index_find_routes, METH_O, NULL},
    {"remember_routes", (PyCFunction)index_remember_routes, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef index_members[] = {
    {"complete", T_BOOL, offsetof(index_object, complete), READONLY, NULL},
    {"length", T_PYSSIZET, offsetof(index_object, length), READONLY, NULL},
    {"worn", T_BOOL, offsetof(index_object, worn), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot index_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("Index()\n--\n\nAs in altdispatch.receivers.")},
    {Py_tp_new, index_new},
    {Py_tp_traverse, index_traverse},
    {Py_tp_clear, index_clear},
    {Py_tp_dealloc, index_dealloc},
    {Py_tp_methods, index_methods},
    {Py_tp_members, index_members},
    {0, NULL},
};

static PyType_Spec index_spec = {
    .name = "altdispatch._speedups.Index",
    .basicsize = sizeof(index_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = index_slots,
};

#endif
