"""Everyday queries made from a product's attributes."""

from engine.training.lexicon import LANGUAGES, Lexicon, phrase

ROW = {"articleType": "Casual Shoes", "baseColour": "Red", "gender": "Men"}


def test_queries_say_what_a_customer_would() -> None:
    texts = {query.text for query in Lexicon.load().queries(ROW)}
    assert {"red shoes", "men red casual shoes", "红色鞋", "男士红色休闲鞋", "rot Schuhe", "メンズ赤靴"} <= texts


def test_translations_share_a_key_and_other_meanings_do_not() -> None:
    queries = list(Lexicon.load().queries(ROW))
    key = {query.text: query.key for query in queries}
    assert key["red shoes"] == key["红色鞋"] == key["zapatos rojo"]
    assert len({key["red shoes"], key["red casual shoes"], key["shoes"], key["men red shoes"]}) == 4


def test_every_concept_has_a_word_in_every_language() -> None:
    for concept, words in Lexicon.load().words.items():
        assert set(words) == set(LANGUAGES), concept
        assert all(word.strip() == word and word for variants in words.values() for word in variants), concept


def test_unknown_attributes_give_fewer_queries_and_no_error() -> None:
    lexicon = Lexicon.load()
    assert list(lexicon.queries({"articleType": "Spaceships", "baseColour": "Red", "gender": "Men"})) == []
    plain = list(lexicon.queries({"articleType": "Watches", "baseColour": "Octarine", "gender": "Robots"}))
    assert {"watch", "手表"} <= {query.text for query in plain}


def test_word_order_follows_the_language() -> None:
    assert phrase("en", "shirt", "blue", "men's") == "men's blue shirt"
    assert phrase("en", "shirt", "blue", "for men") == "blue shirt for men"
    assert phrase("fr", "chemise", "bleu", "") == "chemise bleu"
    assert phrase("zh", "衬衫", "蓝色", "男士") == "男士蓝色衬衫"
