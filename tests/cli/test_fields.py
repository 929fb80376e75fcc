"""The table of request fields agrees with the rules of the library."""

from lemon_async._api.families import FAMILIES, RULES, family_of
from lemon_async.cli.fields import FIELDS, complete_value, models_for


def test_models_are_those_that_are_documented_for_each_operation():
    for operation in ("generate", "edit"):
        ids = {id_ for family in FAMILIES if operation in family.operations for id_ in family.ids}
        assert {id_ for id_ in ids if "*" not in id_} <= set(models_for(operation))
        families = [family for family in FAMILIES if operation in family.operations]
        assert {family_of(model).name for model in models_for(operation)} == {family.name for family in families}


def test_closed_values_are_those_of_each_family_that_has_the_field():
    for field in FIELDS:
        for model in (*models_for("generate"), "flux-pro", "mj-7"):
            family = family_of(model)
            if field.name in family.fields:
                values = complete_value(field, model, "generate")
                assert values == family.values.get(field.name, values), (field.name, model)
                assert all(RULES[field.name].accepts(value) for value in values), (field.name, model)


def test_help_names_the_models_of_a_field_that_few_families_have():
    for field in FIELDS:
        families = [family for family in FAMILIES if field.name in family.fields]
        if len(families) <= 2:
            for id_ in (id_ for family in families for id_ in family.ids):
                assert id_ in field.full_help("generate"), field.name


def test_help_for_edits_leaves_out_models_that_only_generate():
    assert not [field.name for field in FIELDS if "dall-e-3" in field.full_help("edit") and field.values]
