/* last_hop.h - from an order record to bytes on the socket: the gateway's hot path.
 *
 *     order record -> sense, worker, epoch -> row PENDING -> nineteen checks -> journal line -> tokens -> socket
 *
 * last_hop_look() empties the rings of all workers, and does all of this for each order of a burst (a ladder that moves
 * is about ten) before the next, so that every order is checked against what the one before it left; what is a turn of
 * the event loop, a future or a log line comes after the last byte. Two system calls an order: write(2) to the journal,
 * so that the line survives the death of any process (reliability I4), and sendmsg(2). No allocation. Where no
 * connection is to be had the order keeps its row and waits; last_hop_pass() is asked again at the moment its bytes can
 * go. Single threaded.
 *
 * Not fsync'd unless asked for: fdatasync(2) before the send is for machines that may die, not processes. */
#ifndef COREQUOTE_LAST_HOP_H
#define COREQUOTE_LAST_HOP_H

#ifndef CFFI_CDEF
#include "gateway_books.h"
#endif

enum {
    HOP_BURST_MAX = 64,
    HOP_TAIL_BYTES = 1536,
    JOURNAL_LINE_BYTES = 1536,
};

/* What became of a record. */
enum {
    HOP_NO_ORDER = 0,  /* not a PLACE or REPLACE: left to the caller */
    HOP_SENSELESS = 1, /* dropped: a worker is not trusted with a record that makes no sense */
    HOP_FOREIGN = 2,   /* dropped: another worker's market */
    HOP_FENCED = 3,    /* dropped: a fenced worker's words; nobody waits for an answer */
    HOP_REJECTED = 4,  /* `code` says why; it never had a row */
    HOP_REFUSED = 5,   /* `code` says why; its row is free again, and what it would have replaced is as it was */
    HOP_WAITS = 6,     /* it has its row; no connection was at hand */
    HOP_SENT = 7,
};

/* Places where the fault campaign lets the process die: arguments of last_hop_t.reach. */
enum { REACH_AFTER_TAKE = 0, REACH_AFTER_RISK = 1, REACH_AFTER_JOURNAL = 2, REACH_AFTER_SEND = 3 };

/* The intent journal's open segment. */
typedef struct {
    atomic_u64 dirty;  /* 1: something was written since the last fdatasync */
    int64_t bytes;     /* in the segment */
    int32_t fd;
    int32_t sync_each; /* 1: fdatasync(2) before a line counts as written */
} journal_segment_t;

/* Appends whole lines. 0, or an errno: what they were about may not leave then. Half a line is taken back. */
int32_t journal_append(journal_segment_t *segment, const char *lines, uint32_t length);

/* What became of one record of a burst. */
typedef struct {
    int32_t step;         /* HOP_* */
    int32_t code;         /* LOCAL_* of REJECTED and REFUSED */
    int32_t slot;         /* of the new order; after REFUSED, the one that it had */
    int32_t connection;   /* SENT: by which of the connections */
    int64_t sent_mono_ns; /* SENT: just before its bytes were handed to the socket */
    uint32_t head_bytes;
    uint32_t written;     /* SENT: bytes of the request that the socket took */
    uint32_t body_at;     /* in tail; the body ends the request */
    uint32_t tail_bytes;
    char tail[HOP_TAIL_BYTES]; /* WAITS, SENT: the request from the length of its body on */
} hop_result_t;

/* One worker's order ring and what was last read from it. */
typedef struct {
    message_ring_t *ring;
    uint32_t worker;
    uint32_t count; /* records read and not given back to the ring */
    uint32_t end;   /* of them, those before it have been looked at */
    uint32_t reserved;
    order_record_t records[HOP_BURST_MAX];
    hop_result_t results[HOP_BURST_MAX]; /* up to `end` */
} hop_reader_t;

typedef struct {
    market_books_t **markets; /* by market slot; NULL = not ours */
    uint32_t market_count;
    uint32_t connection_count, connections_used;
    const int32_t *connections; /* descriptors, free for one request each */
    const char *place_head, *replace_head; /* a request up to the length of its body */
    uint32_t place_head_bytes, replace_head_bytes;
    int64_t heads_until_mono_ns; /* the token in them is good until then */
    journal_segment_t *journal;
    int32_t journal_error;    /* errno of the last line that could not be written */
    int32_t reserved;
    void (*reach)(int32_t place); /* NULL unless a crash is to be provoked */
} last_hop_t;

/* A worker is not trusted with a record: 1 when every member that says what to do is one of its values. */
int32_t order_record_makes_sense(const order_record_t *record);
/* 1 when a cancel is among the records. */
int32_t order_records_cancel(const order_record_t *records, uint32_t count);
/* Takes PLACE and REPLACE records from `end` on, passing over cancels, which the caller has done already, up to the first
 * record of another kind. Without may_wait also up to the first order that has no connection. */
void last_hop_run(last_hop_t *hop, hop_reader_t *reader, int32_t may_wait);
/* Reads every ring whose last records have been given back, and runs what came, as far as there are connections. A ring
 * with a cancel in it is only read: cancels go first. Returns how many records are there to be taken up. */
uint32_t last_hop_look(last_hop_t *hop, hop_reader_t *const *readers, uint32_t count);
/* Gives what was read back to the ring. */
void last_hop_release(hop_reader_t *reader);
/* The last checks of an order that waited, its line in the journal, and the tokens it takes: what must be between it
 * and its bytes. 0, or LOCAL_*. */
int32_t last_hop_pass(last_hop_t *hop, market_books_t *market, uint32_t slot);

#endif
