from edgeinfer.model.schema import parse


def check(data, ceilings):
    return parse(data)
