from types import FunctionType

from .receivers import Index as Index

def compile(function: FunctionType) -> FunctionType: ...
