"""Class envelope, part two: JSON that is none, has two readings, or has unknown fields."""

import json

from kit import oms
from kit.case import rejected

case = rejected("envelope")


def with_text(world, change):
    """The honest bundle's text, changed."""
    text = json.dumps(world.bundle())
    changed = change(text)
    assert changed != text
    world.signature.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    return world.verify()


def with_payload(world, change):
    """The honest payload's text, changed, and signed like that."""
    text = oms.encode(world.statement()).decode()
    changed = change(text)
    assert changed != text
    world.sign_payload(changed if isinstance(changed, bytes) else changed.encode())
    return world.verify()


# -- duplicate keys: parsers differ on which of the two counts ---------------------------------


@case("json_duplicate_key")
def bundle_duplicate_keys(world):
    return with_text(world, lambda text: '{"dsseEnvelope":{},' + text[1:])


@case("json_duplicate_key")
def bundle_duplicate_keys__escaped(world):
    return with_text(world, lambda text: '{"dsse\\u0045nvelope":{},' + text[1:])


@case("json_duplicate_key")
def bundle_duplicate_keys__in_the_signature(world):
    return with_text(world, lambda text: text.replace('"sig":', '"sig":"","sig":'))


@case("json_duplicate_key")
def bundle_duplicate_keys__in_the_payload(world):
    return with_payload(world, lambda text: '{"subject":[],' + text[1:])


@case("json_duplicate_key")
def bundle_duplicate_keys__in_a_resource(world):
    return with_payload(
        world,
        lambda text: text.replace('{"name":"config.json"', '{"name":"x","name":"config.json"'),
    )


@case("json_duplicate_key")
def bundle_duplicate_keys__in_a_foreign_annotation(world):
    """Also where the values are ignored: JSON that has two readings is no JSON here."""
    return with_payload(
        world, lambda text: text.replace('"name":"model"', '"name":"model","note":{"a":1,"a":2}')
    )


# -- what is not JSON --------------------------------------------------------------------------


@case("json_invalid")
def bundle_not_json__trailing_document(world):
    return with_text(world, lambda text: text + text)


@case("json_invalid")
def bundle_not_json__cut_off(world):
    return with_text(world, lambda text: text[:-1])


@case("json_invalid")
def bundle_not_json__byte_order_mark(world):
    return with_text(world, lambda text: "\ufeff" + text)


@case("json_invalid")
def bundle_not_json__utf16(world):
    return with_text(world, lambda text: text.encode("utf-16"))


@case("json_invalid")
def bundle_not_json__payload_cut_off(world):
    return with_payload(world, lambda text: text[:-1])


@case("json_invalid")
def bundle_not_json__payload_not_a_number(world):
    return with_payload(
        world, lambda text: text.replace('"name":"model"', '"name":"model","note":NaN')
    )


@case("json_invalid")
def bundle_not_json__payload_trailing_comma(world):
    return with_payload(world, lambda text: text[:-1] + ",}")


# -- fields ------------------------------------------------------------------------------------


@case("media_type")
def unknown_media_type(world):
    return with_text(world, lambda text: text.replace(oms.MEDIA_TYPE, "application/json"))


@case("media_type")
def unknown_media_type__future_version(world):
    return with_text(world, lambda text: text.replace("bundle.v0.3", "bundle.v9.0"))


@case("media_type")
def unknown_media_type__only_a_prefix(world):
    """The published schema's pattern is not anchored at the end."""
    return with_text(world, lambda text: text.replace("v0.3+json", "v0.3+jsonx"))


@case("json_field")
def unknown_media_type__missing(world):
    bundle = world.bundle()
    del bundle["mediaType"]
    world.write_bundle(bundle)
    return world.verify()


@case("json_field")
def fields__unknown_in_the_bundle(world):
    return with_text(world, lambda text: '{"messageSignature":{},' + text[1:])


@case("json_field")
def fields__unknown_in_the_envelope(world):
    return with_text(world, lambda text: text.replace('"payload":', '"payloads":[],"payload":'))


@case("json_field")
def fields__unknown_in_the_statement(world):
    return with_payload(world, lambda text: '{"note":1,' + text[1:])


@case("json_field")
def fields__unknown_in_the_predicate(world):
    return with_payload(world, lambda text: text.replace('"predicate":{', '"predicate":{"note":1,'))


@case("json_field")
def fields__unknown_in_the_serialization(world):
    return with_payload(
        world, lambda text: text.replace('"serialization":{', '"serialization":{"note":1,')
    )


@case("json_field")
def fields__symlinks_as_text(world):
    """The string "false" is true in many languages."""
    return with_payload(
        world, lambda text: text.replace('"allow_symlinks":false', '"allow_symlinks":"false"')
    )


@case("json_field")
def fields__unknown_method(world):
    """Strict: a value outside the enumeration is ill-typed; no code of its own exists."""
    return with_payload(world, lambda text: text.replace('"method":"files"', '"method":"tensors"'))


@case("json_field")
def fields__resource_without_digest(world):
    statement = world.statement()
    del oms.find(statement, "config.json")["digest"]
    world.sign(statement)
    return world.verify()


@case("json_field")
def fields__bundle_is_an_array(world):
    return with_text(world, lambda text: f"[{text}]")


@case("verification_material")
def verification_material__none(world):
    bundle = world.bundle()
    bundle["verificationMaterial"] = {"tlogEntries": []}
    world.write_bundle(bundle)
    return world.verify()


@case("verification_material")
def verification_material__contradictory(world):
    """A key and a certificate: two answers to who signed."""
    bundle = world.bundle()
    bundle["verificationMaterial"]["certificate"] = {"rawBytes": oms.b64(b"certificate")}
    world.write_bundle(bundle)
    return world.verify()


# -- forms that only a lenient parser takes for the document -----------------------------------


@case("json_field")
def bundle_of_arrays(world):
    """A derived parser takes an array of an object's values in order for the object; no other reader does."""
    bundle = world.bundle()
    envelope = bundle["dsseEnvelope"]
    hint = bundle["verificationMaterial"]["publicKey"]["hint"]
    signature = envelope["signatures"][0]
    arrays = [
        bundle["mediaType"],
        [[hint, None, None, None], None, None, [], None],
        [envelope["payload"], envelope["payloadType"], [[signature["sig"], ""]]],
    ]
    world.signature.write_text(json.dumps(arrays))
    return world.verify()


@case("json_field")
def bundle_of_arrays__one_signature(world):
    bundle = world.bundle()
    signature = bundle["dsseEnvelope"]["signatures"][0]
    bundle["dsseEnvelope"]["signatures"] = [[signature["sig"], ""]]
    world.write_bundle(bundle)
    return world.verify()


@case("json_field")
def bundle_of_arrays__a_resource(world):
    statement = world.statement(annotate=False)
    first = statement["predicate"]["resources"][0]
    statement["predicate"]["resources"][0] = [first["name"], first["algorithm"], first["digest"]]
    world.sign(statement)
    return world.verify()


@case("json_invalid")
def parser_private_key(world):
    """A name under which the JSON library passes raw text to itself: what it holds would escape every check."""
    statement = world.statement()
    raw = {"$serde_json::private::RawValue": "7"}
    statement["subject"][0]["annotations"] = {"sentry-ml.dev/version": raw}
    world.sign(statement)
    return world.verify()
