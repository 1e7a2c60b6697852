"""X1 to X23 of the exchange contract, section 8, over HTTP and to the cent. Fees are 10/20 bps."""

from uuid import UUID

import pytest

from engine.paper.arithmetic import (
    book_price_cents,
    fee_cents,
    released_cost_cents,
    target_freeze_cents,
)
from engine.paper.model import AMM_USER_ID, Side
from tests.paper.venue import MARKET, OTHER_MARKET, Person, Venue

pytestmark = pytest.mark.platform_examples


def only_trade(placed: dict) -> dict:
    (trade,) = placed["trades"]
    return trade


@pytest.fixture
def story(venue: Venue) -> "Story":
    return Story(venue)


class Story:
    """X5: six fills among A, B, C and D, told up to any letter."""

    def __init__(self, venue: Venue) -> None:
        self.venue = venue
        self.a, self.b, self.c, self.d = venue.people("ABCD")
        self.last: dict = {}
        self.rest: dict = {}
        self.chapters = {
            "a": [(self.a, "BUY YES 60x100"), (self.b, "BUY NO 40x100")],
            "b": [(self.a, "SELL YES 65x50"), (self.c, "BUY YES 65x50")],
            "c": [(self.b, "SELL NO 45x30"), (self.d, "BUY NO 45x30")],
            "d": [(self.c, "SELL YES 70x20"), (self.b, "SELL NO 30x20")],
            "e": [(self.a, "SELL YES 72x10"), (self.d, "BUY YES 72x10")],
            "f": [(self.b, "SELL NO 35x10"), (self.a, "BUY NO 35x10")],
        }

    def tell(self, until: str) -> "Story":
        for letter in "abcdef"[: "abcdef".index(until) + 1]:
            (maker, rests), (taker, takes) = self.chapters[letter]
            self.rest = maker.place(rests)
            self.last = taker.place(takes)
            self.maker_trade = maker.get(f"/orders/{self.rest['order']['id']}")["trades"][-1]
        return self


@pytest.mark.parametrize(
    ("price", "quantity", "frozen"),
    [
        (65, 100, 6513),
        (35, 100, 3507),
        (25, 10, 251),
        (5, 100, 501),
        (1, 1, 2),
        (50, 7, 351),
        (99, 10000, 991980),
    ],
)
def test_x1_freeze_of_a_buy(venue: Venue, price: int, quantity: int, frozen: int) -> None:
    (a,) = venue.people("A")
    order = a.place(f"BUY YES {price}x{quantity}")["order"]
    assert (order["frozen_amount"], order["frozen_asset_type"]) == (frozen, "FUNDS")
    assert a.cash == (1_000_000 - frozen, frozen)


def test_x2_mint_at_one_price(venue: Venue) -> None:
    a, b = venue.people("AB")
    resting = a.place("BUY YES 65x100")["order"]
    assert a.cash == (993487, 6513)
    trade = only_trade(b.place("BUY NO 35x100"))
    assert (trade["scenario"], trade["price_cents"], trade["role"], trade["fee_cents"]) == (
        "MINT",
        65,
        "TAKER",
        7,
    )
    (made,) = a.get(f"/orders/{resting['id']}")["trades"]
    assert (made["role"], made["fee_cents"], made["realized_pnl_cents"]) == ("MAKER", 7, None)
    assert a.cash == (993493, 0)
    assert a.holds() == {"YES": (100, 6500)}
    assert b.cash == (996493, 0)
    assert b.holds() == {"NO": (100, 3500)}
    assert venue.pool() == (10000, 0)
    assert venue.fees == 14


def test_x3_improvement_goes_to_the_yes_taker(venue: Venue) -> None:
    b, c = venue.people("BC")
    assert b.place("BUY NO 40x50")["order"]["frozen_amount"] == 2004
    trade = only_trade(c.place("BUY YES 70x50"))
    assert (trade["scenario"], trade["price_cents"], trade["fee_cents"]) == ("MINT", 60, 6)
    assert b.cash == (997998, 0)
    assert b.holds() == {"NO": (50, 2000)}
    assert c.cash == (996994, 0)
    assert c.holds() == {"YES": (50, 3000)}
    assert venue.pool() == (5000, 0)
    assert venue.fees == 2 + 6


def test_x4_improvement_goes_to_the_no_taker(venue: Venue) -> None:
    a, b = venue.people("AB")
    a.place("BUY YES 70x50")
    trade = only_trade(b.place("BUY NO 40x50"))
    assert (trade["scenario"], trade["price_cents"], trade["fee_cents"]) == ("MINT", 70, 3)
    assert a.cash == (996496, 0)
    assert b.cash == (998497, 0)
    assert b.holds() == {"NO": (50, 1500)}
    assert venue.fees == 4 + 3


def test_x5a_mint(story: Story) -> None:
    story.tell("a")
    assert (only_trade(story.last)["fee_cents"], story.maker_trade["fee_cents"]) == (8, 6)
    assert story.a.cash == (993994, 0)
    assert story.a.holds() == {"YES": (100, 6000)}
    assert story.b.cash == (995992, 0)
    assert story.b.holds() == {"NO": (100, 4000)}
    assert story.venue.pool() == (10000, 0)


def test_x5b_transfer_of_yes(story: Story) -> None:
    story.tell("b")
    trade = only_trade(story.last)
    assert (trade["scenario"], trade["price_cents"], trade["fee_cents"]) == ("TRANSFER_YES", 65, 7)
    assert (story.maker_trade["fee_cents"], story.maker_trade["realized_pnl_cents"]) == (4, 250)
    assert story.a.cash == (997240, 0)
    assert story.a.holds() == {"YES": (50, 3000)}
    assert story.c.cash == (996743, 0)
    assert story.c.holds() == {"YES": (50, 3250)}
    assert story.venue.pool() == (10000, 250)


def test_x5c_transfer_of_no(story: Story) -> None:
    story.tell("c")
    trade = only_trade(story.last)
    assert (trade["scenario"], trade["price_cents"], trade["fee_cents"]) == ("TRANSFER_NO", 55, 3)
    assert (story.maker_trade["fee_cents"], story.maker_trade["realized_pnl_cents"]) == (2, 150)
    assert story.maker_trade["counterparty_side"] == "SELL"
    assert story.b.cash == (997340, 0)
    assert story.b.holds() == {"NO": (70, 2800)}
    assert story.d.cash == (998647, 0)
    assert story.d.holds() == {"NO": (30, 1350)}
    assert story.venue.pool() == (10000, 400)


def test_x5d_burn(story: Story) -> None:
    story.tell("d")
    trade = only_trade(story.last)
    assert (trade["scenario"], trade["price_cents"], trade["fee_cents"]) == ("BURN", 70, 2)
    assert (trade["realized_pnl_cents"], story.maker_trade["realized_pnl_cents"]) == (-200, 100)
    assert story.maker_trade["fee_cents"] == 2
    assert story.b.cash == (997938, 0)
    assert story.b.holds() == {"NO": (50, 2000)}
    assert story.c.cash == (998141, 0)
    assert story.c.holds() == {"YES": (30, 1950)}
    assert story.venue.pool() == (8000, 300)


def test_x5e_the_buyer_nets(story: Story) -> None:
    story.tell("e")
    trade = only_trade(story.last)
    assert (trade["scenario"], trade["fee_cents"]) == ("TRANSFER_YES", 2)
    assert (story.maker_trade["fee_cents"], story.maker_trade["realized_pnl_cents"]) == (1, 120)
    netting = story.last["netting_result"]
    assert (netting["pairs_netted"], netting["released_cents"]) == (10, 1000)
    assert story.d.cash == (998925, 0)
    assert story.d.holds() == {"NO": (20, 900)}
    assert story.a.cash == (997959, 0)
    assert story.a.holds() == {"YES": (40, 2400)}
    assert story.venue.pool() == (7000, 250)


def test_x5f_the_book_seller_nets(story: Story) -> None:
    story.tell("f")
    trade = only_trade(story.last)
    assert (trade["scenario"], trade["price_cents"], trade["fee_cents"]) == ("TRANSFER_NO", 65, 1)
    assert (story.maker_trade["fee_cents"], story.maker_trade["realized_pnl_cents"]) == (1, -50)
    assert story.last["netting_result"]["pairs_netted"] == 10
    assert story.a.cash == (998608, 0)
    assert story.a.holds() == {"YES": (30, 1800)}
    assert story.b.cash == (998287, 0)
    assert story.b.holds() == {"NO": (40, 1600)}
    assert story.venue.pool() == (6000, 250)
    assert story.venue.fees == 39


@pytest.mark.parametrize(
    ("outcome", "payouts", "status"),
    [
        ("YES", {"a": 3000, "c": 3000}, "SETTLED"),
        ("NO", {"b": 4000, "d": 2000}, "SETTLED"),
        ("VOID", {"a": 1728, "b": 1536, "c": 1872, "d": 864}, "VOIDED"),
    ],
)
def test_x6_settlement(
    venue: Venue, monkeypatch: pytest.MonkeyPatch, outcome: str, payouts: dict[str, int], status: str
) -> None:
    # The remainder of a void goes to the last user id, so the ids must rise from A to D as in the example.
    ids = iter([UUID(int=number) for number in range(100, 104)])
    monkeypatch.setattr("engine.paper.routes_account.uuid.uuid4", lambda: next(ids))
    story = Story(venue).tell("f")
    before = {name: getattr(story, name).cash.available for name in "abcd"}
    data = venue.operator.post(f"/admin/markets/{MARKET}/resolve", {"resolution_result": outcome})
    after = {name: getattr(story, name).cash.available for name in "abcd"}
    assert {name: after[name] - before[name] for name in "abcd"} == {
        name: payouts.get(name, 0) for name in "abcd"
    }
    assert data["settlement"]["total_payout_cents"] == sum(payouts.values()) == 6000
    assert data["settlement"]["winners_count"] == len(payouts)
    assert venue.market()["status"] == status
    assert venue.pool() == (0, 0)
    assert story.a.holds() == story.b.holds() == story.c.holds() == story.d.holds() == {}
    assert venue.fees == 39


def test_x7_partial_fill_then_cancel(venue: Venue) -> None:
    a, b = venue.people("AB")
    order_id = a.place("BUY YES 65x100")["order"]["id"]
    trade = only_trade(b.place("BUY NO 35x30"))
    order = a.order(order_id)
    assert a.cash == (993488, 4560)
    assert (order["status"], order["remaining_quantity"], order["filled_quantity"]) == (
        "PARTIALLY_FILLED",
        70,
        30,
    )
    assert (a.get(f"/orders/{order_id}")["trades"][0]["fee_cents"], trade["fee_cents"]) == (2, 3)
    cancelled = a.cancel(order_id).data
    assert (cancelled["unfrozen_amount"], cancelled["remaining_quantity_cancelled"]) == (4560, 70)
    order = a.order(order_id)
    assert (order["status"], order["frozen_amount"], order["remaining_quantity"]) == ("CANCELLED", 0, 70)
    assert a.cash == (998048, 0)
    assert a.holds() == {"YES": (30, 1950)}


@pytest.mark.parametrize(("cents", "taker_fees", "left"), [(102, [1, 1], 0), (101, [0, 1], 0)])
def test_x8_fees_of_a_taker_without_slack(venue: Venue, cents: int, taker_fees: list[int], left: int) -> None:
    a, b = venue.people("AB")
    c = venue.person("user_C", cents)
    makers = [person.place("BUY NO 50x1")["order"]["id"] for person in (a, b)]
    placed = c.place("BUY YES 50x2")
    assert [trade["fee_cents"] for trade in placed["trades"]] == taker_fees
    assert {(trade["scenario"], trade["price_cents"]) for trade in placed["trades"]} == {("MINT", 50)}
    maker_fees = [
        person.get(f"/orders/{order_id}")["trades"][0]["fee_cents"]
        for person, order_id in zip((a, b), makers, strict=True)
    ]
    assert maker_fees == [1, 1]
    assert c.cash == (left, 0)
    assert c.holds() == {"YES": (2, 100)}


def test_x9_ioc_cancels_its_remainder(venue: Venue) -> None:
    a, d = venue.people("AD")
    a.place("BUY NO 40x5")
    placed = d.place("BUY YES 65x8 IOC")
    trade, order = only_trade(placed), placed["order"]
    assert (trade["quantity"], trade["price_cents"], trade["fee_cents"]) == (5, 60, 1)
    assert (order["status"], order["filled_quantity"], order["remaining_quantity"]) == ("CANCELLED", 5, 3)
    assert order["cancel_reason"] == "IOC_UNFILLED"
    assert d.cash == (999699, 0)
    assert d.holds() == {"YES": (5, 300)}


def test_x10_price_then_time(venue: Venue) -> None:
    a, b, c, d = venue.people("ABCD")
    orders = {}
    for person, words in ((a, "BUY NO 40x10"), (b, "BUY NO 41x10"), (c, "BUY NO 40x10")):
        orders[person.name] = person.place(words)["order"]["id"]
    placed = d.place("BUY YES 60x25")
    assert [(t["quantity"], t["price_cents"], t["fee_cents"]) for t in placed["trades"]] == [
        (10, 59, 2),
        (10, 60, 2),
        (5, 60, 1),
    ]
    assert [t["trade_id"] for t in placed["trades"]] == [
        person.get(f"/orders/{orders[person.name]}")["trades"][0]["trade_id"] for person in (b, a, c)
    ]
    assert d.cash == (998505, 0)
    assert d.holds() == {"YES": (25, 1490)}
    assert c.cash.frozen == 201
    assert c.order(orders[c.name])["remaining_quantity"] == 5


class Maker:
    """X11 onwards: the market maker with its minted shares, and U."""

    def __init__(self, venue: Venue, cents: int = 500_000) -> None:
        self.venue = venue
        self.amm = venue.amm
        self.amm.post("/account/deposit", {"amount_cents": cents})
        (self.u,) = venue.people("U")

    def mint(self, quantity: int = 1000) -> "Maker":
        self.amm.post("/amm/mint", {"market_id": MARKET, "quantity": quantity, "idempotency_key": "mint-1"})
        return self

    def sell_yes(self) -> "Maker":
        self.resting = self.amm.place("SELL YES 54x100")
        self.taking = self.u.place("BUY YES 54x100")
        return self

    def burn(self) -> "Maker":
        self.burned = self.amm.post(
            "/amm/burn", {"market_id": MARKET, "quantity": 200, "idempotency_key": "burn-1"}
        )
        return self

    def sell_no(self) -> "Maker":
        self.resting = self.amm.place("SELL NO 46x50")
        self.taking = self.u.place("BUY NO 46x50")
        return self

    def maker_trade(self) -> dict:
        return self.amm.get(f"/orders/{self.resting['order']['id']}")["trades"][0]


def test_x11_mint(venue: Venue) -> None:
    maker = Maker(venue).mint()
    assert maker.amm.cash == (400000, 0)
    assert maker.amm.holds() == {"YES": (1000, 50000), "NO": (1000, 50000)}
    assert venue.pool() == (100000, 0)


def test_x12_maker_sells_yes(venue: Venue) -> None:
    maker = Maker(venue).mint().sell_yes()
    assert (maker.maker_trade()["fee_cents"], only_trade(maker.taking)["fee_cents"]) == (6, 11)
    assert maker.maker_trade()["realized_pnl_cents"] == 400
    assert maker.amm.cash == (405394, 0)
    assert maker.amm.holds()["YES"] == (900, 45000)
    assert maker.u.cash == (994589, 0)
    assert venue.pool()[1] == 400


def test_x13_burn(venue: Venue) -> None:
    maker = Maker(venue).mint().sell_yes().burn()
    assert maker.burned["recovered_cents"] == 20000
    assert maker.amm.cash == (425394, 0)
    assert maker.amm.holds() == {"YES": (700, 35000), "NO": (800, 40000)}
    assert venue.pool() == (80000, 400)


def test_x14_maker_keeps_both_sides(venue: Venue) -> None:
    maker = Maker(venue).mint().sell_yes().burn().sell_no()
    trade = only_trade(maker.taking)
    assert (trade["scenario"], trade["price_cents"], trade["fee_cents"]) == ("TRANSFER_NO", 54, 5)
    assert (maker.maker_trade()["fee_cents"], maker.maker_trade()["realized_pnl_cents"]) == (3, -200)
    assert maker.taking["netting_result"]["pairs_netted"] == 50
    assert maker.u.cash == (997284, 0)
    assert maker.u.holds() == {"YES": (50, 2700)}
    assert maker.amm.cash == (427691, 0)
    assert maker.amm.holds() == {"YES": (700, 35000), "NO": (750, 37500)}
    assert venue.pool() == (75000, 200)


@pytest.mark.parametrize(
    ("scope", "answer"),
    [("ALL", (3, 4008, 200, 150)), ("SELL_ONLY", (2, 0, 200, 150)), ("BUY_ONLY", (1, 4008, 0, 0))],
)
def test_x15_batch_cancel(venue: Venue, scope: str, answer: tuple[int, ...]) -> None:
    maker = Maker(venue).mint().sell_yes().burn().sell_no()
    for words in ("SELL YES 56x200", "SELL NO 48x150", "BUY YES 40x100"):
        maker.amm.place(words)
    assert maker.amm.cash == (423683, 4008)
    position = maker.amm.get(f"/positions/{MARKET}")
    assert (position["yes"]["pending_sell"], position["no"]["pending_sell"]) == (200, 150)
    data = maker.amm.post("/amm/orders/batch-cancel", {"market_id": MARKET, "cancel_scope": scope})
    assert answer == (
        data["cancelled_count"],
        data["total_unfrozen_funds_cents"],
        data["total_unfrozen_yes_shares"],
        data["total_unfrozen_no_shares"],
    )
    if scope == "ALL":
        assert maker.amm.cash == (427691, 0)
        unfreezes = [row["amount_cents"] for row in maker.amm.ledger("entry_type=ORDER_UNFREEZE")]
        assert unfreezes == [4008]


def test_x16_replace_of_a_sale(venue: Venue) -> None:
    maker = Maker(venue).mint()
    old = maker.amm.place("SELL YES 54x100")["order"]["id"]
    before = maker.amm.cash
    reply = maker.amm.try_replace(old, "SELL YES 55x120")
    assert reply.status == 200
    assert maker.amm.get(f"/positions/{MARKET}")["yes"]["pending_sell"] == 120
    assert maker.amm.cash == before
    assert (reply.data["old_order_status"], reply.data["old_order_original_quantity"]) == ("CANCELLED", 100)
    assert maker.amm.order(old)["cancel_reason"] == "REPLACED"


class Replacer(Maker):
    """X16 and X17: a sale of YES and a replaced bid on the book."""

    def __init__(self, venue: Venue) -> None:
        super().__init__(venue)
        self.mint()
        sale = self.amm.place("SELL YES 54x100")["order"]["id"]
        assert self.amm.try_replace(sale, "SELL YES 55x120").status == 200
        self.bid = self.amm.place("BUY YES 45x100")["order"]["id"]

    def raise_bid(self) -> "Replacer":
        reply = self.amm.try_replace(self.bid, "BUY YES 46x100")
        assert reply.status == 200
        self.bid = reply.data["new_order"]["id"]
        return self


def test_x17_replace_of_a_bid(venue: Venue) -> None:
    maker = Replacer(venue)
    assert maker.amm.cash == (395491, 4509)
    maker.raise_bid()
    assert maker.amm.cash == (395390, 4610)
    assert venue.pool() == (100000, 0)


def test_x18_replace_of_a_partly_filled_order(venue: Venue) -> None:
    maker = Replacer(venue).raise_bid()
    trade = only_trade(maker.u.place("BUY NO 54x30"))
    assert (trade["scenario"], trade["price_cents"], trade["fee_cents"]) == ("MINT", 46, 4)
    assert maker.amm.get(f"/orders/{maker.bid}")["trades"][0]["fee_cents"] == 2
    assert maker.amm.cash == (395391, 3227)
    assert maker.amm.holds()["YES"] == (1030, 51380)
    reply = maker.amm.try_replace(maker.bid, "BUY YES 47x100", key="never-stored")
    assert (reply.status, reply.code) == (422, 6001)
    assert reply.data == {
        "old_order_id": maker.bid,
        "old_order_status": "CANCELLED",
        "filled_quantity": 30,
        "remaining_quantity_cancelled": 70,
        "unfrozen_amount": 3227,
        "unfrozen_asset_type": "FUNDS",
    }
    assert maker.amm.cash == (398618, 0)
    live = maker.amm.get("/orders?status=OPEN,PARTIALLY_FILLED")["items"]
    assert [order["original_direction"] for order in live] == ["SELL"]
    assert "never-stored" not in {order["client_order_id"] for order in maker.amm.pages("/orders?limit=100")}


class TestX19:
    """Replaces that are refused change nothing; a repeated one answers the same."""

    @pytest.fixture
    def maker(self, venue: Venue) -> Replacer:
        maker = Replacer(venue)
        # A second bid behind ours shows that ours keeps its place.
        maker.u.place("BUY YES 45x10")
        return maker

    def refuse(self, maker: Replacer, old: str, words: str, market: str = MARKET) -> tuple[int, int, dict]:
        before = (maker.amm.cash, maker.amm.holds(), maker.amm.order(maker.bid))
        journal = maker.venue.operator.get("/admin/journal")["last_sequence"]
        reply = maker.amm.try_replace(old, words, market)
        assert (maker.amm.cash, maker.amm.holds(), maker.amm.order(maker.bid)) == before
        assert maker.venue.operator.get("/admin/journal")["last_sequence"] == journal
        return reply.status, reply.code, reply.data

    def test_filled(self, maker: Replacer) -> None:
        sold = maker.amm.place("SELL YES 45x10")["order"]
        assert sold["status"] == "FILLED"
        data = {"old_order_id": sold["id"], "total_filled_quantity": 10}
        assert self.refuse(maker, sold["id"], "BUY YES 44x10") == (422, 6003, data)

    def test_unknown(self, maker: Replacer) -> None:
        assert self.refuse(maker, "404", "BUY YES 44x10") == (404, 6002, {"old_order_id": "404"})

    def test_of_another_user(self, maker: Replacer) -> None:
        theirs = maker.u.place("BUY YES 30x10")["order"]["id"]
        data = {"old_order_id": theirs, "owner_user_id": maker.u.id}
        assert self.refuse(maker, theirs, "BUY YES 44x10") == (403, 6004, data)

    def test_other_market(self, maker: Replacer) -> None:
        data = {"old_market_id": MARKET, "new_market_id": OTHER_MARKET}
        assert self.refuse(maker, maker.bid, "BUY YES 44x10", OTHER_MARKET) == (422, 6005, data)

    def test_cancelled(self, maker: Replacer) -> None:
        gone = maker.amm.place("BUY YES 20x10")["order"]["id"]
        maker.amm.cancel(gone)
        data = {"old_order_id": gone, "status": "CANCELLED", "filled_quantity": 0}
        assert self.refuse(maker, gone, "BUY YES 44x10") == (422, 4006, data)

    @pytest.mark.parametrize("price", [0, 100])
    def test_price(self, maker: Replacer, price: int) -> None:
        assert self.refuse(maker, maker.bid, f"BUY YES {price}x10") == (422, 4001, None)

    def test_cash(self, maker: Replacer) -> None:
        assert self.refuse(maker, maker.bid, "BUY YES 99x10000") == (422, 2001, None)

    def test_shares(self, maker: Replacer) -> None:
        assert self.refuse(maker, maker.bid, "SELL YES 99x5000") == (422, 5001, None)

    def test_queue_place_is_kept(self, maker: Replacer) -> None:
        self.refuse(maker, maker.bid, "BUY YES 99x10000")
        trade = only_trade(maker.u.place("BUY NO 55x10"))
        filled = maker.amm.order(maker.bid)
        assert filled["filled_quantity"] == 10
        assert maker.amm.get(f"/orders/{maker.bid}")["trades"][0]["trade_id"] == trade["trade_id"]

    def test_repeated_success(self, maker: Replacer) -> None:
        first = maker.amm.try_replace(maker.bid, "BUY YES 46x100", key="again")
        journal = maker.venue.operator.get("/admin/journal")["last_sequence"]
        second = maker.amm.try_replace(maker.bid, "BUY YES 46x100", key="again")
        assert (first.status, second.status) == (200, 200)
        assert second.data == first.data
        assert maker.venue.operator.get("/admin/journal")["last_sequence"] == journal

    def test_reused_key(self, maker: Replacer) -> None:
        assert maker.amm.try_replace(maker.bid, "BUY YES 46x100", key="again").status == 200
        reply = maker.amm.try_replace(maker.bid, "BUY YES 47x100", key="again")
        assert (reply.status, reply.code) == (409, 4005)


def test_x20_the_market_maker_trades_with_itself(venue: Venue) -> None:
    amm = venue.amm
    amm.post("/account/deposit", {"amount_cents": 100_000})
    amm.place("BUY YES 50x10")
    placed = amm.place("BUY NO 50x10")
    assert (only_trade(placed)["scenario"], placed["netting_result"]) == ("MINT", None)
    assert amm.cash == (98998, 0)
    assert amm.holds() == {"YES": (10, 500), "NO": (10, 500)}
    both = amm.get("/trades")["items"]
    assert [item["fee_cents"] for item in both] == [1, 1]
    assert {item["my_side"] for item in both} == {"BUY", "SELL"}
    assert len({item["trade_id"] for item in both}) == 1


def test_x21_own_orders_are_skipped(venue: Venue) -> None:
    a, b = venue.people("AB")
    own = a.place("BUY NO 50x10")["order"]["id"]
    theirs = b.place("BUY NO 49x10")["order"]["id"]
    trade = only_trade(a.place("BUY YES 55x10"))
    assert (trade["price_cents"], trade["fee_cents"]) == (51, 2)
    assert b.get(f"/orders/{theirs}")["trades"][0]["fee_cents"] == 1
    assert a.cash == (998987, 501)
    assert a.holds() == {"YES": (10, 510)}
    assert a.order(own)["status"] == "OPEN"


def test_x22_released_cost_one_share_at_a_time(venue: Venue) -> None:
    # 33 + 33 + 34 makes a position of 3 shares that cost 100.
    a, b = venue.people("AB")
    a.place("BUY NO 67x2")
    a.place("BUY NO 66x1")
    b.place("BUY YES 34x3")
    assert b.holds() == {"YES": (3, 100)}
    released = []
    for _ in range(3):
        volume, cost = b.holds()["YES"]
        a.place("BUY YES 20x1")
        b.place("SELL YES 20x1")
        left = b.holds().get("YES", (0, 0))
        assert left[0] == volume - 1
        released.append(cost - left[1])
    assert released == [33, 33, 34]


def test_x23_fee_base_is_the_users_own_price(venue: Venue) -> None:
    a, b = venue.people("AB")
    a.place("BUY YES 95x100")
    assert only_trade(b.place("BUY NO 5x100"))["fee_cents"] == 1


@pytest.mark.parametrize(
    ("value", "bps", "fee"),
    [
        (6500, 20, 13),
        (6501, 20, 14),
        (6500, 0, 0),
        (0, 20, 0),
        (1, 20, 1),
        (100, 20, 1),
        (10000, 20, 20),
        (10000, 10, 10),
    ],
)
def test_unit_values_of_fees(value: int, bps: int, fee: int) -> None:
    assert fee_cents(value, bps) == fee


@pytest.mark.parametrize(
    ("words", "book_type", "book_side", "book_price"),
    [
        ("BUY YES 65x10", "NATIVE_BUY", "BUY", 65),
        ("SELL YES 65x10", "NATIVE_SELL", "SELL", 65),
        ("BUY NO 65x10", "SYNTHETIC_SELL", "SELL", 35),
        ("SELL NO 65x10", "SYNTHETIC_BUY", "BUY", 35),
    ],
)
def test_unit_values_of_conversion(
    venue: Venue, words: str, book_type: str, book_side: str, book_price: int
) -> None:
    maker = Maker(venue).mint()
    order = maker.amm.place(words)["order"]
    assert (order["book_type"], order["book_direction"], order["book_price_cents"]) == (
        book_type,
        book_side,
        book_price,
    )


def test_unit_value_mint_by_a_fill(venue: Venue) -> None:
    a, b = venue.people("AB")
    a.place("BUY YES 65x100")
    b.place("BUY NO 35x100")
    market = venue.market()
    assert market["reserve_balance_cents"] == 10000
    assert (market["total_yes_shares"], market["total_no_shares"]) == (100, 100)


def holding(venue: Venue, name: str, words: str) -> Person:
    """A person who bought exactly that from somebody who took the other outcome."""
    person, other = venue.person(f"user_{name}"), venue.person(f"other_{name}")
    direction, side, size = words.split()
    price, quantity = size.split("x")
    person.place(words)
    other.place(f"{direction} {'NO' if side == 'YES' else 'YES'} {100 - int(price)}x{quantity}")
    return person


@pytest.mark.parametrize(
    ("bought", "sold", "taken", "scenario", "pnl"),
    [
        ("BUY YES 50x10", "SELL YES 60x10", "BUY YES 60x10", "TRANSFER_YES", 100),
        ("BUY NO 40x10", "SELL NO 40x10", "BUY NO 40x10", "TRANSFER_NO", 0),
    ],
)
def test_unit_values_of_transfers(
    venue: Venue, bought: str, sold: str, taken: str, scenario: str, pnl: int
) -> None:
    person, taker = holding(venue, "A", bought), venue.person("user_T")
    order_id = person.place(sold)["order"]["id"]
    taker.place(taken)
    (trade,) = person.get(f"/orders/{order_id}")["trades"]
    assert (trade["scenario"], trade["price_cents"], trade["quantity"]) == (scenario, 60, 10)
    assert trade["realized_pnl_cents"] == pnl


def test_unit_values_of_a_burn(venue: Venue) -> None:
    yes, no = holding(venue, "A", "BUY YES 50x5"), holding(venue, "B", "BUY NO 30x5")
    yes.place("SELL YES 70x5")
    trade = only_trade(no.place("SELL NO 30x5"))
    assert (trade["scenario"], trade["price_cents"], trade["realized_pnl_cents"]) == ("BURN", 70, 0)
    sale = yes.get("/trades")["items"][0]
    assert (sale["realized_pnl_cents"], sale["realized_pnl_display"]) == (100, "+$1.00")


def test_unit_value_netting_spares_promised_shares(venue: Venue) -> None:
    person = holding(venue, "A", "BUY YES 50x100")
    seller = venue.person("user_S")
    person.place("SELL YES 90x80")
    person.place("BUY NO 40x50")
    netted = seller.place("BUY YES 60x50")
    assert netted["netting_result"] is None
    rows = person.ledger("entry_type=NETTING")
    assert [row["amount_cents"] for row in rows] == [20 * 100]
    position = person.get(f"/positions/{MARKET}")
    assert (position["yes"]["volume"], position["yes"]["available"], position["no"]["volume"]) == (80, 0, 30)


def test_unit_value_ten_winning_shares(venue: Venue) -> None:
    person = holding(venue, "A", "BUY YES 50x10")
    before = person.cash.available
    venue.operator.post(f"/admin/markets/{MARKET}/resolve", {"resolution_result": "YES"})
    assert person.cash.available - before == 1000


def test_unit_values_of_mint_and_burn(venue: Venue) -> None:
    maker = Maker(venue)
    minted = maker.amm.post("/amm/mint", {"market_id": MARKET, "quantity": 1000, "idempotency_key": "m"})
    burned = maker.amm.post("/amm/burn", {"market_id": MARKET, "quantity": 200, "idempotency_key": "b"})
    assert (minted["cost_cents"], burned["recovered_cents"]) == (100000, 20000)
    assert maker.amm.id == AMM_USER_ID


def test_arithmetic_of_the_examples() -> None:
    assert [released_cost_cents(*pair, 1) for pair in ((3, 100), (2, 67), (1, 34))] == [33, 33, 34]
    assert [target_freeze_cents(65, remaining, 20) for remaining in (100, 70, 0)] == [6513, 4560, 0]
    assert book_price_cents(Side.NO, book_price_cents(Side.NO, 37)) == 37
