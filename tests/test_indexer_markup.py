"""Feeds in XML: the products are read, what could harm or says nothing is refused."""

import pytest

from engine.errors import InvalidCatalogue
from indexer.markup import MAX_CHARACTERS, MAX_DEPTH
from indexer.sources import open_source

MERCHANT = """<?xml version="1.0"?>
<rss version="2.0" xmlns:g="http://base.google.com/ns/1.0"><channel><title>Shop</title>
<item><g:id>S1</g:id><title>news</title><g:title>Linen shirt &amp; more</g:title><title>news</title>
<g:description><![CDATA[<p>Cool <b>shirt</b></p>]]></g:description><g:image_link>a.jpg</g:image_link>
<g:additional_image_link>b.jpg</g:additional_image_link><g:additional_image_link>c.jpg</g:additional_image_link>
<g:price>39.90 EUR</g:price><g:shipping><g:country>DE</g:country></g:shipping><g:gtin></g:gtin></item>
<item><g:id>S2</g:id><title>Mug</title></item></channel></rss>"""


def read(tmp_path, text):
    path = tmp_path / "feed.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    source = open_source(path)
    try:
        return [row for shard in list(source.shards(1)) for row in source.read(shard)]
    finally:
        source.close()


def test_a_merchant_feed_is_read(tmp_path):
    shirt, mug = read(tmp_path, MERCHANT)
    assert (shirt.row, shirt.document.id, shirt.document.title) == (1, "S1", "Linen shirt & more")
    assert shirt.document.description == "Cool shirt"
    assert [image.rpartition("/")[2] for image in shirt.document.images] == ["a.jpg", "b.jpg", "c.jpg"]
    assert shirt.document.attributes == {"price": 39.9, "price_currency": "EUR", "shipping.country": "DE"}
    assert (mug.row, mug.document.id, mug.document.title) == (2, "S2", "Mug")


@pytest.mark.parametrize(
    "feed",
    [
        '<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>p1</id><title>Mug</title></entry></feed>',
        '<?xml version="1.0" encoding="ISO-8859-1"?><shop><product id="p1"><name>Mug</name></product></shop>',
        '<?xml version="1.0"?><yml_catalog><offers><offer id="p1"><name>Mug</name></offer></offers></yml_catalog>',
    ],
)
def test_other_lists_of_products_are_read(tmp_path, feed):
    (row,) = read(tmp_path, feed)
    assert (row.document.id, row.document.title) == ("p1", "Mug")


def test_the_declared_encoding_is_used(tmp_path):
    feed = '<?xml version="1.0" encoding="ISO-8859-1"?><p><item><id>1</id><title>Café</title></item></p>'
    assert read(tmp_path, feed.encode("latin-1"))[0].document.title == "Café"
    assert read(tmp_path, feed.replace("ISO-8859-1", "utf-16").encode("utf-16"))[0].document.title == "Café"


BOMB = '<?xml version="1.0"?><!DOCTYPE r [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><r><item><id>&b;</id></item></r>'


@pytest.mark.parametrize(
    ("feed", "why"),
    [
        (BOMB, "document type"),
        ('<?xml version="1.0"?><!DOCTYPE r SYSTEM "file:///etc/passwd"><r/>', "document type"),
        (MERCHANT[: len(MERCHANT) // 2], "not valid XML"),
        ('<?xml version="1.0"?><rows><row><id>1</id></row></rows>', r"without products \(none of <entry>, <item>"),
        (f"<rss><item><id>1</id><title>{'x' * MAX_CHARACTERS}</title></item></rss>", "line 1 of more than 1,048,576 characters"),
        (f"<rss><item>{'<a>' * MAX_DEPTH}", "levels deep"),
        ("<rss><item/></rss>", "no JSON object|no id column|holds no"),
    ],
)
def test_what_harms_or_says_nothing_is_refused(tmp_path, feed, why):
    with pytest.raises(InvalidCatalogue, match=why):
        read(tmp_path, feed)
