"""What pyproject.toml cannot say: the folders that the defaults need are installed inside the package."""

from setuptools import find_packages, setup

FOLDERS = {"vhs._project.configs": "configs", "vhs._project.data": "data", "vhs._project.ckpts.tiny": "ckpts/tiny"}

setup(
    license="Apache-2.0",
    packages=[*find_packages(include=["vhs", "vhs.*"]), *FOLDERS],
    package_dir=FOLDERS,
    include_package_data=False,
    package_data={
        "vhs.generators": ["architectures/**/*.json"],
        "vhs.runs.report": ["templates/*"],
        "vhs.verifiers": ["architectures/*.json"],
        **{folder: ["**/*"] for folder in FOLDERS},
    },
)
