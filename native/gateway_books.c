/* gateway_books.c - see gateway_books.h. */
#include "gateway_books.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "orderbook.h"
#include "own_orders.h"

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* Slots in use, lowest first: for (bits = market->used; bits; bits &= bits - 1) slot = lowest(bits). */
static inline uint32_t lowest(uint64_t bits) { return (uint32_t)__builtin_ctzll(bits); }

void books_init(market_books_t *market) {
    market->used = 0;
    market->free_first = 0;
    market->free_count = LIVE_ORDER_SLOTS;
    for (uint32_t slot = 0; slot < LIVE_ORDER_SLOTS; slot++) market->free_slots[slot] = (uint8_t)slot;
    market->ids_in_ms = CLIENT_IDS_PER_MS; /* a predecessor may have used all of its last ms */
}

/* ---- client order ids (platform §2.3) ---- */

/* Never the same twice, never going back in time, over restarts too: the newest time is in the account row before an id
 * with it is used. */
static void name(market_books_t *market, booked_order_t *order, int64_t now_ms) {
    if (now_ms > market->ids_ms) {
        market->ids_ms = now_ms;
        market->ids_in_ms = 1;
    } else if (market->ids_in_ms < CLIENT_IDS_PER_MS) {
        market->ids_in_ms++;
    } else { /* the clock went back, or the ms is used up: borrow the next */
        market->ids_ms++;
        market->ids_in_ms = 1;
    }
    if (market->ids_in_ms == 1) {
        market->account_state->last_client_ms = market->ids_ms;
        account_write(market->account_row, market->account_state);
    }
    const char *outcome = order->row.outcome == OUTCOME_YES ? "YES" : "NO";
    const char *direction = order->row.direction == DIRECTION_BUY ? "BUY" : "SELL";
    const char *market_names[] = {market->market_id, market->short_id};
    char text[2 * MARKET_ID_BYTES + 64];
    int length = INT_MAX;
    for (int i = 0; i < 2 && length > CLIENT_ID_BYTES_MAX; i++)
        length = snprintf(text, sizeof text, "amm_%s_%s_%s_%lld_%03d", market_names[i], outcome, direction,
                          (long long)market->ids_ms, market->ids_in_ms);
    memset(order->row.client_order_id, 0, sizeof order->row.client_order_id);
    memcpy(order->row.client_order_id, text, (size_t)smaller(length, CLIENT_ID_BYTES_MAX));
    order->row.created_ms = market->ids_ms;
}

/* ---- orders ---- */

int32_t books_open(market_books_t *market, const order_record_t *record, int64_t now_ms) {
    if (market->free_count == 0) return BOOKS_NO_SLOT;
    uint32_t slot = market->free_slots[market->free_first];
    market->free_first = (market->free_first + 1) % LIVE_ORDER_SLOTS;
    market->free_count--;
    market->used |= (uint64_t)1 << slot;

    /* a price that no order can have is refused by what it is; here it only must not overflow */
    int32_t price_cents = (int32_t)smaller(larger(record->price_cents, -PAIR_CENTS), 2 * PAIR_CENTS);
    booked_order_t *order = &market->orders[slot];
    *order = (booked_order_t){
        .row =
            {
                .state = LIVE_PENDING,
                .outcome = record->outcome,
                .direction = record->direction,
                .worker_epoch = record->worker_epoch,
                .intent = record->intent,
                .price_cents = record->price_cents,
                .quantity = record->quantity,
                .remaining = record->quantity,
            },
        .candidate =
            {
                .outcome = record->outcome,
                .direction = record->direction,
                .price_cents = record->price_cents,
                .side = own_book_side(record->outcome, record->direction),
                .book_price_cents = own_book_price(record->outcome, price_cents),
                .fair_cents = record->basis_fair_cents,
                .level = record->basis_defense,
                .gates = record->basis_gates,
                .quantity = record->quantity,
                .decided_mono_ns = record->decided_mono_ns,
            },
        .number = ++market->numbers,
        .busy = 1,
    };
    name(market, order, now_ms);
    books_publish(market, slot);
    return (int32_t)slot;
}

void books_publish(market_books_t *market, uint32_t slot) {
    booked_order_t *order = &market->orders[slot];
    /* an order at a price that no order can have goes nowhere and holds nothing */
    int32_t price_cents = order->row.price_cents;
    int holds = order->row.direction == DIRECTION_BUY && price_cents > 0 && price_cents < PAIR_CENTS;
    order->row.frozen_cents = holds ? own_freeze_cents(price_cents, order->row.remaining, market->taker_fee_bps) : 0;
    live_order_write(&market->rows[slot], &order->row);
    books_recount(market);
}

void books_close(market_books_t *market, uint32_t slot) {
    booked_order_t *order = &market->orders[slot];
    if (order->row.state == LIVE_FREE) return;
    order->row.state = LIVE_FREE;
    order->busy = 0;
    market->used &= ~((uint64_t)1 << slot);
    market->free_slots[(market->free_first + market->free_count) % LIVE_ORDER_SLOTS] = (uint8_t)slot;
    market->free_count++;
    books_publish(market, slot);
}

booked_order_t *books_replaced(market_books_t *market, const booked_order_t *order) {
    if (order->replaces == 0) return NULL;
    booked_order_t *old = &market->orders[order->replaces_slot];
    return old->number == order->replaces && old->row.state != LIVE_FREE ? old : NULL;
}

/* ---- shared words ---- */

static uint64_t kill_word(const market_books_t *market) {
    return cell_load(market->kill_word) | cell_load(market->account->kill_global);
}

int32_t books_changed(market_books_t *const *markets, uint32_t count) {
    int32_t changed = 0;
    for (uint32_t slot = 0; slot < count; slot++) {
        market_books_t *market = markets[slot];
        if (market == NULL) continue;
        uint64_t killed = kill_word(market), epoch = cell_load(market->worker_epoch);
        uint64_t trade_count = cell_load(market->trade_count);
        changed |= killed != market->seen_kill_word || epoch != market->seen_epoch ||
                   trade_count != market->seen_trade_count;
        market->seen_kill_word = killed;
        market->seen_epoch = epoch;
        market->seen_trade_count = trade_count;
    }
    return changed;
}

/* ---- sums ---- */

static void add(market_sums_t *sums, const market_sums_t *part, int64_t sign) {
    sums->orders += sign * part->orders;
    sums->frozen_cents += sign * part->frozen_cents;
    sums->worst_loss_cents += sign * part->worst_loss_cents;
    sums->cash_cents += sign * part->cash_cents;
    sums->loss_limit_cents += sign * part->loss_limit_cents;
}

void books_recount(market_books_t *market) {
    market_sums_t now = {.cash_cents = market->stock.cash_cents, .loss_limit_cents = market->loss_limit_cents};
    int64_t bid_loss_cents = 0, ask_loss_cents = 0;
    for (uint64_t bits = market->used; bits; bits &= bits - 1) {
        const booked_order_t *order = &market->orders[lowest(bits)];
        int64_t loss_cents =
            order_loss_cents(order->candidate.side, order->candidate.book_price_cents, order->row.remaining);
        *(order->candidate.side == ORDERBOOK_BID ? &bid_loss_cents : &ask_loss_cents) += loss_cents;
        now.frozen_cents += order->row.frozen_cents;
        now.orders++;
    }
    now.worst_loss_cents = stock_loss_cents(&market->stock) + larger(bid_loss_cents, ask_loss_cents);
    add(&market->account->sums, &market->sums, -1);
    add(&market->account->sums, &now, 1);
    market->sums = now;
}

/* ---- counting ---- */

static int older(int64_t at_mono_ns, int64_t limit_ns, int64_t now_mono_ns) {
    return at_mono_ns <= 0 || now_mono_ns - at_mono_ns > limit_ns; /* 0 = never, which is too old */
}

static int32_t stale(const market_books_t *market, int book_valid, int64_t now_mono_ns) {
    const account_books_t *account = market->account;
    int32_t found = 0;
    if (!book_valid || older((int64_t)cell_load(account->feed_beat), account->beat_stale_ns, now_mono_ns) ||
        older((int64_t)cell_load(market->snapshot), market->snapshot_stale_ns, now_mono_ns))
        found |= STALE_BOOK;
    if (older((int64_t)cell_load(market->worker_beat), account->beat_stale_ns, now_mono_ns)) found |= STALE_WORKER;
    if (older(market->reconciled_mono_ns, account->reconcile_stale_ns, now_mono_ns)) found |= STALE_RECONCILIATION;
    return found;
}

/* The feed's top; not valid when no stable copy could be had. */
static top_t read_top(const market_books_t *market) {
    top_t top;
    if (top_read(market->top_row, &top) != RING_OK) top = (top_t){.bid_ticks = -1, .ask_ticks = -1};
    return top;
}

int32_t books_stale(const market_books_t *market, int64_t now_mono_ns) {
    top_t top = read_top(market);
    return stale(market, top.valid != 0, now_mono_ns);
}

/* Best foreign bid and ask; 0 and 100 where the touch holds own orders alone. Behind such a touch a foreign order may
 * rest, further out than our own, which the own-cross check keeps any order of ours from reaching. */
static void count_foreign(const market_books_t *market, const top_t *top, standing_t *standing) {
    int64_t own_bid_lots = 0, own_ask_lots = 0;
    for (uint64_t bits = market->used; bits; bits &= bits - 1) {
        const booked_order_t *order = &market->orders[lowest(bits)];
        if (order->candidate.side == ORDERBOOK_BID)
            own_bid_lots += order->candidate.book_price_cents == top->bid_ticks ? order->row.remaining : 0;
        else
            own_ask_lots += order->candidate.book_price_cents == top->ask_ticks ? order->row.remaining : 0;
    }
    standing->foreign_bid_cents = top->bid_ticks > 0 && top->bid_lots > own_bid_lots ? top->bid_ticks : 0;
    standing->foreign_ask_cents = top->ask_ticks > 0 && top->ask_lots > own_ask_lots ? top->ask_ticks : PAIR_CENTS;
}

static void count_other(market_books_t *market, const booked_order_t *order, const booked_order_t *other,
                        standing_t *standing, int64_t *side_loss_cents) {
    const candidate_t *ours = &order->candidate, *theirs = &other->candidate;
    if (theirs->side == ORDERBOOK_BID)
        standing->own_bid_cents = (int32_t)larger(standing->own_bid_cents, theirs->book_price_cents);
    else
        standing->own_ask_cents = (int32_t)smaller(standing->own_ask_cents, theirs->book_price_cents);
    /* a replace counts once: as its old order while that one is there */
    const booked_order_t *old = books_replaced(market, other);
    if (old == NULL) {
        standing->market_orders++;
        standing->side_orders += theirs->side == ours->side;
    }
    int acknowledged = other->row.venue_order_id[0] != '\0';
    standing->alike_unacked += !acknowledged && theirs->outcome == ours->outcome &&
                               theirs->direction == ours->direction && theirs->price_cents == ours->price_cents &&
                               theirs->quantity == ours->quantity;
    int64_t extra = other->row.remaining, extra_cents = other->row.frozen_cents;
    /* the old order's shares or cash serve the new one, unless the outcome is unknown: then both count */
    if (old != NULL && other->row.state != LIVE_UNKNOWN && old->candidate.direction == theirs->direction) {
        extra_cents = larger(0, extra_cents - old->row.frozen_cents);
        if (old->candidate.outcome == theirs->outcome) extra = larger(0, extra - old->row.remaining);
    }
    if (theirs->side == ours->side) {
        standing->side_shares += extra;
        *side_loss_cents += order_loss_cents(theirs->side, theirs->book_price_cents, extra);
    }
    if (theirs->direction == DIRECTION_BUY) {
        standing->buy_committed_cents += extra_cents;
        standing->buy_committed += theirs->outcome == ours->outcome ? extra : 0;
    } else if (theirs->outcome == ours->outcome) {
        standing->sell_committed += extra;
    }
}

void books_count(market_books_t *market, uint32_t slot, int64_t now_mono_ns, standing_t *standing) {
    account_books_t *account = market->account;
    const booked_order_t *order = &market->orders[slot];
    const booked_order_t *replaced = books_replaced(market, order);
    top_t top = read_top(market);
    int replaces = order->replaces != 0;
    token_bucket_t *bucket = replaces ? &market->replace_tokens : &account->order_tokens;
    *standing = (standing_t){
        .now_mono_ns = now_mono_ns,
        .kill_word = kill_word(market),
        .epoch_current = order->row.worker_epoch == cell_load(market->worker_epoch),
        .admitting = account->admitting && market->open_for_orders && !market->sweeping &&
                     !(market->worker_stuck != NULL && *market->worker_stuck),
        .status = market->status,
        .stale = stale(market, top.valid != 0, now_mono_ns),
        .clock_offset_ms = account->clock_offset_ms,
        .min_price_cents = market->min_price_cents,
        .max_price_cents = market->max_price_cents,
        .order_quantity_max = market->order_quantity_max,
        .order_amount_max_cents = market->order_amount_max_cents,
        .taker_fee_bps = market->taker_fee_bps,
        .collar_cents = market->max_spread_cents + account->collar_ladder_cents,
        .position_limit = market->position_limit,
        .loss_limit_cents = market->loss_limit_cents,
        .engine_loss_limit_cents =
            account->engine_loss_max_cents < 0 ? account->sums.loss_limit_cents : account->engine_loss_max_cents,
        .own_bid_cents = 0,
        .own_ask_cents = PAIR_CENTS,
        .engine_orders = account->sums.orders - 1, /* the order itself has its row already */
        .stock = market->stock,
        .other_loss_cents = account->sums.worst_loss_cents - market->sums.worst_loss_cents,
        .sell_committed = larger(0, -market->pairs_under_way),
        .buy_committed = larger(0, market->pairs_under_way),
        .buy_committed_cents = larger(0, market->pairs_under_way) * PAIR_CENTS,
        .other_frozen_cents = account->sums.frozen_cents - market->sums.frozen_cents,
        .account_cents = account->unallocated_known ? account->unallocated_cents + account->sums.cash_cents : 0,
        .market_tokens = bucket_tokens(&market->order_tokens, now_mono_ns),
        .tokens = bucket_tokens(bucket, now_mono_ns),
        .reserved_tokens = replaces ? 0 : bucket->capacity * account->cancel_reserve_percent / 100,
    };
    int64_t side_loss_cents = 0;
    for (uint64_t bits = market->used; bits; bits &= bits - 1) {
        const booked_order_t *other = &market->orders[lowest(bits)];
        if (other == order || other == replaced || (other->number > order->number && !other->sent)) continue;
        count_other(market, order, other, standing, &side_loss_cents);
    }
    count_foreign(market, &top, standing);
    standing->worst_loss_cents = stock_loss_cents(&market->stock) + side_loss_cents;
}
